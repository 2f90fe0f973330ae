"""The pure core: values and functions of values. No disk, no clock, no environment, no third party."""

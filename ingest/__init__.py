"""From a source to a load: the dlt destination, the runner, readers of histories, the demo shop."""

"""`lakehouse restore`: a lake back from a mirror."""

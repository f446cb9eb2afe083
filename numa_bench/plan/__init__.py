"""Turn settings and a topology into an ordered list of runs. Pure."""

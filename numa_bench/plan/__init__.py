"""From settings and topology to an ordered list of runs. Pure."""

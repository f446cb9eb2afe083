"""Bandwidth runs: points over directions, sizes and kinds of memory in one process."""

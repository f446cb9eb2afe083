"""Measures whether NUMA placement changes the throughput of a GPU pipeline."""

__version__ = "0.1.0"

"""Measure whether NUMA placement changes the throughput of a GPU inference pipeline."""

__version__ = "0.1.0"

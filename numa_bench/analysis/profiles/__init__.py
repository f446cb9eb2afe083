"""Profiler reports: read, measured, shown and compared."""

"""Stored studies as one table of runs."""

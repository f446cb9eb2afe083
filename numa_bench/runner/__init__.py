"""Runs a plan: processes, placement, monitoring, records, and what the user sees."""

"""Profilers: which one a study uses, how it is started, and its exports."""

"""Profilers: selection, command lines, environments, and exports of reports."""

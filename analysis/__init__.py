"""Reads what studies and profilers leave behind; never measures anything."""

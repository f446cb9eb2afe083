"""Runs sets of workers: start them, let them begin together, end them together, one record."""

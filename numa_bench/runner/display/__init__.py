"""What the user sees: a bar or lines while a study runs, and tables."""

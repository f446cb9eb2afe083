"""One page, its tables, and the summary in the terminal."""

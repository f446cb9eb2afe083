"""Settings: their schema and documentation, how they are loaded, checked and reported."""

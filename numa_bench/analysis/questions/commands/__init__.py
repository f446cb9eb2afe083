"""Questions about commands of the user's own: variants, other metrics, where memory was."""

"""What a worker does as a member of a set: it starts with the others, and it may stream memory."""

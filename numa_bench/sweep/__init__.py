"""A sweep as one thing: its jobs in processes of their own, its progress, its summary."""

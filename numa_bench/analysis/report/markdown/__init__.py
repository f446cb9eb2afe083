"""The block for a pull request: hardware, method, commands, table and verdict in Markdown."""

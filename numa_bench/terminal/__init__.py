"""What is printed: texts of others in it cannot control the terminal."""

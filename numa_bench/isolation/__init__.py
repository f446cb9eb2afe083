"""Locks between measurements of a host, and between them and heavy work beside them."""

"""Tasks: the identifiers that a program knows, and what their handlers get to do their work."""

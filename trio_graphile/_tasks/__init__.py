"""Tasks: what a program knows under an identifier, and what its handlers are told and lent."""

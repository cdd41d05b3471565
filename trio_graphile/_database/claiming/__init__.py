"""How a worker claims jobs: the statements that claim, and what chooses among them."""

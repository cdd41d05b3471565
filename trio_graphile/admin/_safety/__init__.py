"""What keeps the admin safe: who may ask, what is hidden, and what is shown as what it is."""

"""Adding jobs: one, or many at once, each by the cheapest statement that can add it."""

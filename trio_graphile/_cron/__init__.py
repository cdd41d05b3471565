"""Crontabs as values: from text to entries and back, and which entries are due when. No clock, no I/O."""

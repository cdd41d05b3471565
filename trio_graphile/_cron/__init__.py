"""Crontabs as values: reads and writes entries, and says which of them are due. No clock, no I/O."""

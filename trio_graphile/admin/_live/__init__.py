"""Watches a queue while pages are open: one look for all, and the stream that reports changes."""

"""Counts and groups that take bounded time at any size of the table: each reads a bounded number of rows."""

"""Counts and groups that end in time at any size of the table: each looks at so many rows at most."""

"""Lists of jobs that end in time at any size of the table: each request looks at a window of so many rows."""

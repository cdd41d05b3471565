"""What the admin reads and does, without HTTP: both the API and the pages call these."""

"""The admin: pages and a JSON API."""

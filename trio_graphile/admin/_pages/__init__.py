"""The admin's pages: HTML from templates, readable without a script."""

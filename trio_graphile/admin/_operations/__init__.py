"""The operations of the admin, without HTTP; the API and the pages call them."""

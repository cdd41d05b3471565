"""The safety of the admin: who may do what, which values are hidden, and how texts are shown."""

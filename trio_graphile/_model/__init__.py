"""Values and functions of values: no Trio, no clock, no I/O."""

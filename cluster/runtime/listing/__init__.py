"""Which files the input is: paths, globs, tables."""

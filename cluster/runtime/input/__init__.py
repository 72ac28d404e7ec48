"""The files of the input: found, opened and checked."""

"""A configuration file: its keys, its rules, what it means."""

"""Which rows stand in which slot at which step."""

"""The state that is carried over: read, planned, staged, shown."""

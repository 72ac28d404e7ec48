"""The files and the series of the demo."""

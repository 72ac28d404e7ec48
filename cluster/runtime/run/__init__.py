"""One run, from a request to _SUCCESS."""

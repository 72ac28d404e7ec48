"""What `verify` does: the proof of an output from storage alone."""

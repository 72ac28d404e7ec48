"""What a person sees of a run: progress, timeline, status, report."""

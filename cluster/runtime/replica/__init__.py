"""One replica: its actor, its pipeline, its process."""

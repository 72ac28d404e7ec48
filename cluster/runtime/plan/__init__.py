"""A run's plan on storage."""

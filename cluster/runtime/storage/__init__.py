"""The one door to storage, and what stands behind it."""

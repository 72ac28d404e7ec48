"""A run on a cluster: `core` decides, `runtime` acts."""

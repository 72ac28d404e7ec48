"""The edges: the only place with Ray, files and clocks."""

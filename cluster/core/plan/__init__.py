"""What the input holds, and how it is cut into shards."""

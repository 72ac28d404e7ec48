"""A shard's rows in memory."""

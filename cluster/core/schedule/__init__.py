"""Who gets which shard, and when."""

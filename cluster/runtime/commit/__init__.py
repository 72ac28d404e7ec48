"""What makes a written file count: commit records, the lock, checksums."""

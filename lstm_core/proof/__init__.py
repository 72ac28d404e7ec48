"""The proof that chunked scores equal unchunked ones."""

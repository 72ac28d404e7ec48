"""Small inputs of every kind that other writers leave, each with its truth and its accounting."""

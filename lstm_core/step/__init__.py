"""The compiled step: a model on fixed batch slots with its state explicit."""

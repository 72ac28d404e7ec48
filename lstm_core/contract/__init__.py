"""What a model asks and gives, read from its archive without Keras."""

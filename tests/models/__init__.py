"""Keras models that tests score, prove or see refused."""

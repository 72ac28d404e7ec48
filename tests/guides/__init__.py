"""What follows the guides as a reader would: their blocks, and the folder that they are run in."""

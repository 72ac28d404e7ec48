"""What a command shares with its terminal: the log and the signals."""

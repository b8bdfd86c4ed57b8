"""`overflowd`, on the command line."""

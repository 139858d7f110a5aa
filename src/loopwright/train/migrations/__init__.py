"""Schema changes of training, in order."""

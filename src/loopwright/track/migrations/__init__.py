"""Schema changes of tracking, in order."""

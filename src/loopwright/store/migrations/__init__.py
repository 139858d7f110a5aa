"""Schema revisions of the store's own tables."""

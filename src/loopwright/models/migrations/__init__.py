"""Revisions of the registry's tables."""

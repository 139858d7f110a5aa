"""Batch scoring by declared jobs: what triggers them, their runs, and what their monitors see."""

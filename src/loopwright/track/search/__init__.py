"""Searching runs and experiments.

A filter's text becomes tokens (`reader`), comparisons (`language`, in the words of `words`) and SQL conditions
(`conditions`, `compiler`); `paging` gives the order and the place to go on from, `tokens` seals that place, `planning`
chooses a way, and `query` and `experiments` ask the database.
"""

"""Loopwright: the whole life of a machine-learning model in one package, with one lineage."""

__version__ = "0.1.0"

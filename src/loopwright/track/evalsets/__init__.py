"""Evaluation sets: what a model or an agent is asked, with what is expected of its answer."""

"""Logged models: what a training run made, with its own params, tags, metrics and files (a thing of MLflow 3)."""

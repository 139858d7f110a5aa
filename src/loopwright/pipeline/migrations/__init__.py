"""Schema changes of pipelines, in order."""

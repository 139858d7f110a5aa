"""Traces: what one request went through, told by spans that hang on the trace as a file (MLflow's tracing)."""

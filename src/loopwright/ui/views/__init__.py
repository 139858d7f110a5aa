"""View functions: each gathers the values of one page by asking operations."""

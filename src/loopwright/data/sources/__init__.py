"""Everything that rows and files can come from."""

"""Files that hang on runs, logged models and traces: rows of paths, with the bytes in the object store."""

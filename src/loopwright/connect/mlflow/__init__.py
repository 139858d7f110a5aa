"""MLflow: what a store of it holds comes here (`import`), what is here goes into a server of it (`export`)."""

"""Several processes behind one address: shared listening, who accepts, one answer for all, and who starts them again."""

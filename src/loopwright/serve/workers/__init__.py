"""Several processes behind one address: who accepts, one answer for all of them, and who starts them again."""

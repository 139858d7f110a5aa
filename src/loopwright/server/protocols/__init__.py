"""Foreign protocols: thin siblings that only translate between their wire forms and our services."""

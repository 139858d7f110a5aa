"""Searching runs: a filter language (`language`), its compilation to SQL (`compiler`) and its paging (`paging`)."""

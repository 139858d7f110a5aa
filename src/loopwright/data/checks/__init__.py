"""Expectations about a table: declared as a suite, compiled into one query, judged into a report."""

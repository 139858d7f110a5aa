"""Webhooks: what happens is told to an address outside, signed, at least once, in the order in which it happened."""

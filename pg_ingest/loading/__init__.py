"""Loads of one table, in one pass or in chunks."""

"""Diagnostics: what is wrong with the data and the machine, and how fast both are; trains nothing to keep."""

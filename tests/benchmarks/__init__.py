"""Measurements against peers; README.md says how to run them."""

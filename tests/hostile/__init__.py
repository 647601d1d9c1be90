"""Hostile calls of the Python API; run.py makes them."""

"""Models that are trained, and their files."""

"""The estimators that `cython_sparseops.sklearn` shows."""

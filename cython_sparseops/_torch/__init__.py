"""The PyTorch layer: its public names are in `cython_sparseops.torch`."""

"""The command `sparseops`."""

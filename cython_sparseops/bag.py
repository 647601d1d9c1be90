"""Embedding bags, and the training of a classifier of bags of features over a class tree."""

from cython_sparseops import BagModel, BagTrainer, Progress, embedding_bag

__all__ = ["BagModel", "BagTrainer", "Progress", "embedding_bag"]

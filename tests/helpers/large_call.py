"""A call large enough for a team of threads, and how many threads a process has."""

import os

import numpy as np

import cython_sparseops as cso


class LargeCall:
    """A batch of hierarchical softmax over 5,000 classes; called, it gives their losses."""

    def __init__(self, rows=500):
        self.h = cso.Hierarchy.balanced(5000)
        self.W, self.b = cso.init_weights(self.h, 64, rng=0)
        self.rng = np.random.default_rng(0)
        self.X = self.rng.normal(size=(rows, 64)).astype("f")
        self.labels = self.rng.integers(0, 5000, rows)

    @property
    def batch(self):
        return self.X, self.W, self.b, self.labels, self.h

    def __call__(self, **options):
        return cso.hsoftmax(*self.batch, **options)

    def forever(self):
        while True:
            self(num_threads=3)


def tasks():
    """The threads of this process, by the numbers that Linux gives them."""
    return set(os.listdir("/proc/self/task"))

"""fastText trained by its Python binding, with NumPy alone beside it."""

from __future__ import annotations

import contextlib
import ctypes
import time


def fasttext_model(module, path, **options):
    """Seconds, and a supervised fastText model with the hierarchical softmax, all words kept."""
    settings = {"dim": 100, "epoch": 5, "lr": 0.5, "minCount": 1, "wordNgrams": 1, "bucket": 0}
    settings |= {"minn": 0, "maxn": 0, "verbose": 0} | options
    with zeroed_memory():
        start = time.perf_counter()
        model = module.train_supervised(input=path, loss="hs", **settings)
        return time.perf_counter() - start, model


@contextlib.contextmanager
def zeroed_memory():
    """Under glibc, malloc gives zeros: fastText reads memory that it has not written, and ends with
    "Encountered NaN" where that happens to hold one."""
    mallopt, perturb = getattr(ctypes.CDLL(None), "mallopt", None), -6
    if mallopt is not None:
        mallopt(perturb, 255)
    try:
        yield
    finally:
        if mallopt is not None:
            mallopt(perturb, 0)

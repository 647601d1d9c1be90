"""The k best classes of many rows over Dask's workers, which share one mapped model.

    python tests/examples/batch_dask.py

Each worker maps the file when its first block comes; the pages are one copy per machine.
"""

import tempfile
from functools import lru_cache
from pathlib import Path

import dask.array as da
import numpy as np

from cython_sparseops.sklearn import HSoftmaxClassifier

ANSWER = np.dtype([("label", np.int64), ("log_prob", np.float32)])


@lru_cache(maxsize=1)
def model_of(path: str) -> HSoftmaxClassifier:
    """The model of a file, mapped once in each process."""
    return HSoftmaxClassifier.load(path)


def top_k(block: np.ndarray, path: str, k: int) -> np.ndarray:
    """The answers to one block of rows, shape (rows, k)."""
    found = model_of(path).top_k(block, k)
    answer = np.empty(found.labels.shape, ANSWER)
    answer["label"], answer["log_prob"] = found.labels, found.log_probs
    return answer


def answers(rows: da.Array, path: str, k: int) -> da.Array:
    """The answers to all rows; they are computed when asked for."""
    one_block = rows.rechunk({1: -1})
    return one_block.map_blocks(
        top_k,
        path,
        k,
        dtype=ANSWER,
        chunks=(one_block.chunks[0], (k,)),
        meta=np.empty((0, k), ANSWER),
    )


def main() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(200, size=4000)
    X = (rng.standard_normal((200, 16))[labels] * 2 + rng.standard_normal((4000, 16))).astype("f4")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.sops")
        HSoftmaxClassifier(random_state=0).fit(X, labels).save(path)
        found = answers(da.from_array(X, chunks=(500, -1)), path, 5).compute()
    print(f"{np.mean(found['label'][:, 0] == labels):.3f} of the first answers are right")


if __name__ == "__main__":
    main()

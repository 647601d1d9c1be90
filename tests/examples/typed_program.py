"""A user's program for `mypy --strict`: what the library takes and returns has types, none Any."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import assert_type

import numpy as np
import numpy.typing as npt

import cython_sparseops as cso
from cython_sparseops.sklearn import HSoftmaxClassifier


def batch(rows: int, dim: int, seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)


def train(h: cso.Hierarchy, dim: int, steps: int) -> float:
    W, b = cso.init_weights(h, dim=dim, rng=0)
    optimizer, loss = cso.SGD(lr=0.1), 0.0
    for step in range(steps):
        X, labels = batch(64, dim, step), np.arange(64) % h.n_classes
        gradient = cso.hsoftmax_gradient(X, W, b, labels, h)
        assert_type(gradient, cso.HSoftmaxGradient)
        update = cso.hsoftmax_update(X, W, b, labels, h, optimizer)
        assert_type(update, cso.HSoftmaxUpdate)
        loss = float(update.nll.mean())
    found = cso.hsoftmax_search(batch(2, dim, 9), W, b, h, k=3)
    assert_type(found, cso.SearchResult)
    assert_type(cso.quantize(W), cso.QuantizedWeights)
    return loss


def classify(folder: Path) -> list[int]:
    X, y = np.eye(8), np.arange(8) % 2
    model = HSoftmaxClassifier(random_state=0).fit(X, y)
    assert_type(model, HSoftmaxClassifier)
    model.save(folder / "model")
    again = HSoftmaxClassifier.load(folder / "model")
    assert_type(again, HSoftmaxClassifier)
    return [int(label) for label in again.predict(X)]


def main() -> None:
    h = cso.Hierarchy.huffman(np.arange(1, 101))
    assert_type(h, cso.Hierarchy)
    assert_type(h.n_classes, int)
    assert_type(cso.get_num_threads(), int)
    with TemporaryDirectory() as folder:
        print(f"loss {train(h, 16, 3):.2f}", classify(Path(folder)), cso.runtime_info().active)


if __name__ == "__main__":
    main()

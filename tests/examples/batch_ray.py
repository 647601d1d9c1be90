"""The k best classes of many rows over Ray Data's actors, which share one mapped model.

python tests/examples/batch_ray.py
"""

import tempfile
from pathlib import Path

import numpy as np
import ray

from cython_sparseops.sklearn import HSoftmaxClassifier


class TopK:
    """An actor: it maps the model once and answers any number of batches."""

    def __init__(self, path: str, k: int) -> None:
        self.model, self.k = HSoftmaxClassifier.load(path), k

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The rows of column "data" with the labels and log-probabilities of their k best."""
        found = self.model.top_k(batch["data"], self.k)
        return {**batch, "labels": found.labels, "log_probs": found.log_probs}


def answers(rows: np.ndarray, path: str, k: int, actors: int = 2) -> list[dict[str, np.ndarray]]:
    """The answers to all rows, in any order: "data" says whose."""
    dataset = ray.data.from_numpy(rows).repartition(2 * actors)
    return dataset.map_batches(
        TopK, fn_constructor_args=(path, k), batch_format="numpy", concurrency=actors
    ).take_all()


def main() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(200, size=4000)
    X = (rng.standard_normal((200, 16))[labels] * 2 + rng.standard_normal((4000, 16))).astype("f4")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.sops")
        HSoftmaxClassifier(random_state=0).fit(X, labels).save(path)
        found = answers(X, path, 5)
    print(f"{len(found)} rows answered, the first by {found[0]['labels'].tolist()}")


if __name__ == "__main__":
    main()

"""The bookkeeping of label_trees: what is right, the formats of the peers, the split."""

import json

import numpy as np
import pytest

sparse = pytest.importorskip("scipy.sparse")

from benchmarks.label_trees import forms, pages, race, tasks  # noqa: E402


class Rows:
    """A task's labels."""

    def __init__(self, Y, single):
        self.Y, self.single = sparse.csr_matrix(Y), single

    def labels(self, which):
        return self.Y.indices if self.single else self.Y


def test_of_single_labels_p_at_5_is_the_share_among_the_five():
    task = Rows(np.eye(6)[[0, 1, 2, 3]], single=True)
    top = np.array([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [5, 4, 3, 1, 0], [3, -1, -1, -1, -1]])
    assert race.precision(task, top) == {"p1": 0.5, "p5": 0.75}


def test_of_several_labels_p_at_k_counts_each_place():
    task = Rows([[1, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]], single=False)
    top = np.array([[0, 2, 1, 3, 5], [4, -1, -1, -1, -1]])  # -1 must not count as column -1
    found = race.precision(task, top, "beam")
    assert found == pytest.approx({"p1, beam": 1 / 2, "p3, beam": 2 / 6, "p5, beam": 3 / 10})


def test_answers_of_a_peer_are_read_best_first():
    P = sparse.csr_matrix([[0, 0.1, 0.5, 0, 0, 0, 0.2], [0, 0, 0, 0.9, 0, 0, 0]])
    expected = [[2, 6, 1, -1, -1], [3, -1, -1, -1, -1]]
    assert forms.from_csr(P).tolist() == expected
    pairs = [[(2, 0.5), (6, 0.2), (1, 0.1)], [(3, 0.9)]]
    assert forms.from_pairs(pairs).tolist() == expected


def test_files_of_the_peers_hold_the_same_rows(tmp_path):
    X = sparse.csr_matrix(np.array([[0, 2, 1], [0, 0, 0], [1, 0, 0]], np.float32))
    Y = sparse.csr_matrix(np.array([[1, 0, 1], [0, 1, 0], [0, 1, 0]], np.float32))
    forms.write_xmc(tmp_path / "xmc", X, Y)  # without the row that has no feature
    assert (tmp_path / "xmc").read_text() == "2 3 3\n0,2 1:2 2:1\n1 0:1\n"
    forms.lines(tmp_path / "text", X, Y)
    expected = "__label__0 __label__2 w1 w1 w2\n__label__1 \n__label__1 w0\n"
    assert (tmp_path / "text").read_text() == expected


def test_a_split_leaves_no_label_or_column_that_training_lacks():
    rng = np.random.default_rng(0)
    labels = [[f"l{one}" for one in rng.integers(0, 40, rng.integers(0, 4))] for _ in range(200)]
    labels.append(["rare"])
    counts = sparse.random(201, 300, density=0.02, format="csr", rng=rng, dtype=np.float32)
    train, Y_train, test, Y_test = tasks.split(counts, labels)
    assert train.shape[1] == test.shape[1] < 300
    assert (train.getnnz(axis=0) > 0).all()
    assert (Y_train.getnnz(axis=0) > 0).all()
    assert (Y_test.getnnz(axis=1) > 0).all()
    assert Y_train.getnnz(axis=1).min() > 0
    assert Y_train.shape[1] == Y_test.shape[1] <= 40


def test_the_page_has_means_of_answers_medians_of_times_and_best_in_bold():
    times = {"train_cpu_s": 1, "peak_mib": 1, "file_mib": 1, "model_mib": 1, "us, exact": 2.0}
    same = {"task": "t", "threads": 1, "settings": "s", "versions": {"p": "1"}} | times
    runs = [
        same | {"name": "a", "seed": seed, "p1": p1, "p5": 0.5, "train_s": s}
        for seed, p1, s in ((0, 0.3, 1.0), (1, 0.4, 9.0), (2, 0.2, 2.0))
    ]
    runs.append(same | {"name": "b", "seed": 0, "p1": 0.29, "p5": 0.6, "train_s": 3.0})
    runs.append({"task": "t", "name": "b", "threads": 1, "seed": 1, "failed": "train: no"})
    page = pages.render({"tasks": {}, "runs": json.loads(json.dumps(runs))})
    assert "| a | **0.300** | 0.500 |  | 2.0 |" in page
    assert "| b | 0.290 | **0.600** |  | 3.0 |" in page

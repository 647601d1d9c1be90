"""What ``race.py`` races, one a process: trains or answers, and writes its figures.

python -m benchmarks.label_trees.contestants NAME train|answer TASK WORK --threads 1 --seed 0
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import os
import resource
import time
from pathlib import Path

import numpy as np
from scipy import sparse

from benchmarks.label_trees import peers
from benchmarks.label_trees.forms import BEAM, TOP, Contestant, Task

TURNS = 5  # over the batch of queries; the median counts
SLOW = 5.0  # seconds: a turn that takes longer is not repeated
NLL_ROWS = 1_000


class Ours(Contestant):
    packages = ("cython-sparseops",)
    modules = ("cython_sparseops", "cython_sparseops._models.pilot")
    settings = (
        "class_centroids, Hierarchy.cluster, linear_train, hsoftmax_search: the defaults of "
        "LabelTreeClassifier"
    )

    def prepare(self, work):
        self.X, self.y = self.task.matrix("X_train"), self.task.labels("train")
        self.counts = np.bincount(self.task.matrix("Y_train").indices, minlength=self.task.n_labels)

    def train(self):
        import cython_sparseops as cso

        cso.set_num_threads(self.threads)
        centroids = cso.class_centroids(self.X, self.y, self.task.n_labels)
        self.h = cso.Hierarchy.cluster(centroids, counts=self.counts, rng=self.seed)
        if not self.task.single:
            self.h = self.h.independent()
        loss, C = self.trial() if self.task.single else ("squared_hinge", 1.0)
        self.W = cso.linear_train(self.X, self.y, self.h, loss=loss, C=C, rng=self.seed)

    def trial(self):
        from cython_sparseops._models.pilot import chosen_loss

        options = {"losses": ("squared_hinge", "logistic"), "clustered": True, "seed": self.seed}
        return chosen_loss(self.X, self.y, self.h, {}, **options, num_threads=self.threads)

    def save(self, path):
        path.mkdir()
        self.h.save(path / "tree")
        self.W.save(path / "weights")

    def load(self, path):
        import cython_sparseops as cso

        cso.set_num_threads(self.threads)
        self.h = cso.Hierarchy.load(path / "tree", mmap=False)
        self.W = cso.SparseWeights.load(path / "weights", mmap=False)

    def queries(self):
        return self.task.matrix("X_test")

    def answers(self):
        from cython_sparseops import hsoftmax_search

        return {
            mode: (
                lambda X, beam=beam: hsoftmax_search(X, self.W, None, self.h, TOP, beam=beam),
                lambda found: found.classes,
            )
            for mode, beam in (("exact", None), ("beam", BEAM))
        }

    def nll(self, rows):
        from cython_sparseops import hsoftmax

        y = self.task.labels("test")
        return float(hsoftmax(self.queries(), self.W, None, y, self.h).mean())

    def bytes(self):
        return self.W.nbytes


class OursFlat(Ours):
    settings = "linear_train on a tree of one node: one vs rest, the same loss; exact search"

    def train(self):
        import cython_sparseops as cso

        cso.set_num_threads(self.threads)
        self.h = cso.Hierarchy.two_level(self.task.n_labels, n_groups=1, logistic=False)
        self.W = cso.linear_train(self.X, self.y, self.h, rng=self.seed)


class Forest(Contestant):
    packages = ("cython-sparseops",)
    modules = ("cython_sparseops.sklearn",)
    settings = "LabelTreeClassifier(n_trees=3), its defaults"

    def prepare(self, work):
        self.X, self.y = self.task.matrix("X_train"), self.task.labels("train")

    def train(self):
        self.model = self.classifier(n_trees=3).fit(self.X, self.y)

    def classifier(self, **options):
        from cython_sparseops.sklearn import LabelTreeClassifier

        return LabelTreeClassifier(random_state=self.seed, num_threads=self.threads, **options)

    def save(self, path):
        path.mkdir()
        self.model.save(path / "model")

    def load(self, path):
        from cython_sparseops.sklearn import LabelTreeClassifier

        self.model = LabelTreeClassifier.load(path / "model", mmap=False)
        self.model.set_params(num_threads=self.threads)

    def queries(self):
        return self.task.matrix("X_test")

    def answers(self):
        return {
            mode: (lambda X, beam=beam: self.model.top_k(X, TOP, beam=beam), lambda one: one.labels)
            for mode, beam in (("exact", None), ("beam", BEAM))
        }

    def nll(self, rows):
        """Of rows whose class training has: others have no probability."""
        y = self.task.labels("test")
        known = np.isin(y, self.model.classes_)
        place = np.searchsorted(self.model.classes_, y[known])[:, None]
        return float(-self.model.model_.log_proba(self.queries()[known], place).mean())


class Taxonomy(Forest):
    """Of WordNet alone."""

    settings = (
        "LabelTreeClassifier of WordNet's taxonomy, a clustered tree that it guides, and a "
        "clustered tree"
    )

    def prepare(self, work):
        from benchmarks.data import wordnet_taxonomy

        super().prepare(work)
        self.taxonomy = wordnet_taxonomy()

    def train(self):
        trees = [self.taxonomy, "guided", "cluster"]
        self.model = self.classifier(hierarchy=trees).fit(self.X, self.y)


class NamedTaxonomy(Taxonomy):
    settings = "the same, with a row more for each class: its name"

    def prepare(self, work):
        from benchmarks.data import wordnet_names

        super().prepare(work)
        self.X = sparse.vstack([self.X, wordnet_names(self.task.matrix("counts_train"))])
        self.y = np.append(self.y, np.arange(self.task.n_labels))


CONTESTANTS = {
    "ours": Ours,
    "ours, 3 trees": Forest,
    "ours, taxonomy": Taxonomy,
    "ours, taxonomy and names": NamedTaxonomy,
    "omikuji": peers.Omikuji,
    "omikuji, 3 trees": peers.Omikuji3,
    "PECOS": peers.Pecos,
    "napkinXC PLT": peers.NapkinPLT,
    "napkinXC HSM": peers.NapkinHSM,
    "fastText hs": peers.FastText,
    "nearest centroid": peers.Centroid,
    "flat LinearSVC": peers.Flat,
    "ours, flat": OursFlat,
}


def memory(field):
    """MiB of VmHWM (the most so far) or VmRSS (now). ru_maxrss starts at the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return None


def forget_peak():
    """VmHWM is what is in use now; Linux alone."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def train(one, work):
    """Seconds, CPU seconds, memory and size of the files."""
    one.prepare(work)
    forget_peak()
    before, start, cpu_start = memory("VmRSS"), time.perf_counter(), cpu()
    one.train()
    figures = {"train_s": time.perf_counter() - start, "train_cpu_s": cpu() - cpu_start}
    figures |= {"peak_mib": memory("VmHWM"), "before_mib": before}
    one.save(work / "model")
    files = [path for path in (work / "model").rglob("*") if path.is_file()]
    return figures | {"file_mib": sum(path.stat().st_size for path in files) / 2**20}


def answer(one, work):
    """Memory of the model, microseconds a query in each way it can search, its answers."""
    one.measuring = True
    before = memory("VmRSS")
    one.load(work / "model")
    figures = {"model_mib": memory("VmRSS") - before, "bytes": one.bytes()}
    one.measuring = False
    one.load(work / "model")
    queries, n = one.queries(), one.task.n_test
    for mode, (search, ids) in one.answers().items():
        seconds, used = [], []
        for turn in range(TURNS + 1):
            start, cpu_start = time.perf_counter(), cpu()
            found = search(queries)
            took = time.perf_counter() - start
            if turn or took > SLOW:  # the first warms up
                seconds.append(took)
                used.append(cpu() - cpu_start)
            if took > SLOW:
                break
        figures[f"us, {mode}"] = float(np.median(seconds)) / n * 1e6
        figures[f"cpu us, {mode}"] = float(np.median(used)) / n * 1e6
        if "top" not in figures:
            figures["top"] = mode
            np.save(work / "top.npy", ids(found))
        else:
            np.save(work / f"top {mode}.npy", ids(found))
    rows = min(NLL_ROWS, n)
    return figures | {"nll": one.nll(rows) if one.task.single else None}


def main():
    """Print one line of JSON, the last."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=CONTESTANTS)
    parser.add_argument("stage", choices=("train", "answer"))
    parser.add_argument("task", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    one = CONTESTANTS[options.name](Task(options.task), options.threads, options.seed)
    for name in one.modules:
        importlib.import_module(name)
    figures = (train if options.stage == "train" else answer)(one, options.work)
    figures |= {"load": os.getloadavg()[0], "settings": one.settings}
    figures["versions"] = {name: importlib.metadata.version(name) for name in one.packages}
    (options.work / f"{options.stage}.json").write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()

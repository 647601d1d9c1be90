"""The peers of ``race.py``.

Imports of a library stand in the method that needs it: the process of a peer runs in the peer's own
environment, with NumPy and SciPy beside it.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from benchmarks.label_trees.forms import (
    BEAM,
    TOP,
    Contestant,
    as_words,
    from_csr,
    from_pairs,
    lines,
    write_xmc,
)


class Omikuji(Contestant):
    packages = ("omikuji",)
    modules = ("omikuji",)
    settings = "defaults but one tree: squared hinge, C 1, balanced 2-means, beam 10"
    trees = 1

    def prepare(self, work):
        import omikuji

        self.module = omikuji
        self.pool = omikuji._ThreadPoolHandle(self.threads, initialize=True)
        path = work / "train.txt"
        write_xmc(path, self.task.matrix("X_train"), self.task.matrix("Y_train"))
        self.data = omikuji.lib.load_omikuji_data_set(str(path).encode(), self.pool.ptr)
        path.unlink()

    def train(self):
        options = self.module.Model.default_hyper_param()
        options.n_trees = self.trees
        pointer = self.module.lib.train_omikuji_model(self.data, options, self.pool.ptr)
        self.model = self.module.Model(pointer)

    def save(self, path):
        self.model.save(str(path))

    def load(self, path):
        import omikuji

        self.model = omikuji.Model.load(str(path))
        self.model.init_prediction_thread_pool(self.threads)

    def queries(self):
        X = self.task.matrix("X_test")
        return [
            list(zip(X.indices[a:b].tolist(), X.data[a:b].tolist(), strict=True))
            for a, b in zip(X.indptr, X.indptr[1:], strict=False)
        ]

    def answers(self):
        def one_by_one(rows):
            return [self.model.predict(row, beam_size=BEAM, top_k=TOP) for row in rows]

        return {"beam": (one_by_one, from_pairs)}


class Omikuji3(Omikuji):
    settings = "defaults: three trees, squared hinge, C 1, balanced 2-means, beam 10"
    trees = 3


class Pecos(Contestant):
    packages = ("libpecos",)
    modules = ("pecos.xmc.xlinear",)
    settings = "XLinearModel, defaults: PIFA, hierarchical k-means, 16-ary, C 1, beam 10; chunked"

    def prepare(self, work):
        import scipy.sparse as smat
        from pecos.xmc import Indexer, LabelEmbeddingFactory
        from pecos.xmc.xlinear import XLinearModel

        self.parts = Indexer, LabelEmbeddingFactory, XLinearModel
        X, Y = self.task.rows("train"), self.task.matrix("Y_train")
        self.X = X if self.task.dense else smat.csr_matrix(X, dtype=np.float32)
        self.Y = smat.csr_matrix(Y, dtype=np.float32)

    def train(self):
        indexer, embedding, model = self.parts
        Z = embedding.create(self.Y, self.X, method="pifa", threads=self.threads)
        tree = indexer.gen(
            Z, indexer_type="hierarchicalkmeans", threads=self.threads, seed=self.seed
        )
        self.model = model.train(self.X, self.Y, C=tree, threads=self.threads)

    def save(self, path):
        self.model.save(str(path))

    def load(self, path):
        from pecos.xmc.xlinear import XLinearModel

        self.models = {
            kind: XLinearModel.load(str(path), is_predict_only=True, weight_matrix_type=kind)
            for kind in ("BINARY_SEARCH_CHUNKED", "HASH_CHUNKED")[: 1 if self.measuring else 2]
        }

    def answers(self):
        options = {"beam_size": BEAM, "only_topk": TOP, "threads": self.threads}
        return {
            mode: (lambda X, kind=kind: self.models[kind].predict(X, **options), from_csr)
            for mode, kind in (("beam", "BINARY_SEARCH_CHUNKED"), ("beam, hash", "HASH_CHUNKED"))
        }


class NapkinPLT(Contestant):
    packages = ("napkinxc",)
    modules = ("napkinxc.models",)
    settings = "PLT, defaults: logistic, C 10, binary balanced k-means tree"
    kind, modes = "PLT", ("exact", "beam")

    def made(self, path, **options):
        import napkinxc.models

        options |= {"threads": self.threads, "seed": self.seed, "verbose": 0}
        return getattr(napkinxc.models, self.kind)(str(path), **options)

    def prepare(self, work):
        self.X = self.task.matrix("X_train")
        y = self.task.labels("train")
        self.y = y.tolist() if self.task.single else y
        self.model = self.made(work / "model")

    def train(self):
        self.model.fit(self.X, self.y)

    def save(self, path):
        pass  # written while training

    def load(self, path):
        self.models = {}
        for mode in self.modes[: 1 if self.measuring else 2]:
            options = {"tree_search_type": mode} if len(self.modes) > 1 else {}
            self.models[mode] = self.made(path, beam_search_width=BEAM, **options)
            self.models[mode].load()

    def queries(self):
        return self.task.matrix("X_test")

    def answers(self):
        return {
            mode: (lambda X, one=one: one.predict_proba(X, top_k=TOP), from_pairs)
            for mode, one in self.models.items()
        }


class NapkinHSM(NapkinPLT):
    settings = "HSM, defaults: logistic, C 10, binary balanced k-means tree, exact search"
    kind, modes = "HSM", ("exact",)


class FastText(Contestant):
    packages = ("fasttext-numpy2-wheel",)
    modules = ("fasttext",)
    settings = "hs, dim 100, lr 0.2, 50 epochs (the best tried), all words kept, rows as words"

    def prepare(self, work):
        import fasttext

        self.module, self.path = fasttext, work / "train.txt"
        lines(self.path, self.task.matrix("counts_train"), self.task.matrix("Y_train"))

    def train(self):
        from benchmarks.fasttext_peer import fasttext_model

        options = {"epoch": 50, "lr": 0.2, "thread": self.threads}
        _, self.model = fasttext_model(self.module, str(self.path), **options)

    def save(self, path):
        path.mkdir()
        self.model.save_model(str(path / "model.bin"))

    def load(self, path):
        import fasttext

        self.model = fasttext.load_model(str(path / "model.bin"))

    def queries(self):
        return list(as_words(self.task.matrix("counts_test")))

    def answers(self):
        def search(texts):
            return [self.model.f.predict(text + "\n", TOP, -1.0, "strict") for text in texts]

        def ids(found):
            return from_pairs([[(int(s[9:]), p) for p, s in one] for one in found])

        return {"exact": (search, ids)}

    def nll(self, rows):
        total = 0.0
        for text, y in zip(self.queries()[:rows], self.task.labels("test"), strict=False):
            found = dict((s, p) for p, s in self.model.f.predict(text + "\n", -1, -1.0, "strict"))
            total -= np.log(max(found.get(f"__label__{y}", 0.0), 1e-10))
        return total / rows


class Centroid(Contestant):
    packages = ("scipy",)
    modules = ("sklearn.preprocessing",)
    settings = "sums of a class's rows at unit length, cosine"

    def train(self):
        from sklearn.preprocessing import normalize

        Y = self.task.matrix("Y_train")
        self.centroids = normalize(Y.T @ self.X)

    def save(self, path):
        path.mkdir()
        sparse.save_npz(path / "Z.npz", sparse.csr_matrix(self.centroids), compressed=False)

    def load(self, path):
        Z = sparse.load_npz(path / "Z.npz")
        self.Z = np.ascontiguousarray(Z.T.toarray()) if self.task.dense else Z.T.tocsr()

    def answers(self):
        def search(X):
            parts = []
            for start in range(0, X.shape[0], 500):
                scores = X[start : start + 500] @ self.Z
                scores = scores.toarray() if sparse.issparse(scores) else scores
                best = np.argpartition(-scores, TOP, axis=1)[:, :TOP]
                order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
                parts.append(np.take_along_axis(best, order, 1))
            return np.concatenate(parts)

        return {"exact": (search, np.asarray)}


class Flat(Contestant):
    packages = ("scikit-learn",)
    modules = ("sklearn.svm",)
    settings = "LinearSVC, one vs rest, squared hinge, C 1, dual: no tree"

    def train(self):
        from sklearn.svm import LinearSVC

        self.model = LinearSVC(C=1.0, dual=True, tol=0.1, random_state=self.seed)
        self.model.fit(self.X, self.y)

    def save(self, path):
        path.mkdir()
        np.savez(path / "W.npz", W=self.model.coef_.T, b=self.model.intercept_)

    def load(self, path):
        with np.load(path / "W.npz") as file:
            self.W, self.b = np.ascontiguousarray(file["W"]), file["b"]

    def answers(self):
        def search(X):
            scores = X @ self.W + self.b
            return np.argsort(-scores, axis=1, kind="stable")[:, :TOP]

        return {"exact": (search, np.asarray)}

"""`sparseops predict`: the answers of the classifier, without the time that scikit-learn takes."""

import json

import numpy as np
import pytest

sparse = pytest.importorskip("scipy.sparse")
pytest.importorskip("sklearn")

import cython_sparseops as cso  # noqa: E402
from cython_sparseops._cli.main import main  # noqa: E402
from cython_sparseops._cli.model import CliModel  # noqa: E402
from cython_sparseops._sparse import Compressed, summed  # noqa: E402

TEXT = "__label__cat a cat purrs\n__label__dog the dog barks\n__label__cat my cat é\n" * 20
NUMBERS = "3 1:0.5 7:2\n5 2:1 7:1\n8 1:1 1:2 3:0.5\n" * 20
SEVERAL = "__label__cat __label__pet a cat purrs\n__label__dog the dog barks\n" * 20
ALONE = """
import sys
for name in ("sklearn", "scipy", "joblib"):
    sys.modules[name] = None  # an import of it is an error
from cython_sparseops._cli.main import main
sys.exit(main(sys.argv[1:]))
"""
FILES = {"text": TEXT, "svmlight": NUMBERS, "several labels": SEVERAL}


@pytest.mark.parametrize("head", ["linear", "embedding"])
@pytest.mark.parametrize("kind", list(FILES))
def test_it_needs_numpy_alone(kind, head, tmp_path, child):
    if (kind, head) == ("several labels", "embedding"):
        head = "linear"  # an embedding takes one label a row
    data, model = tmp_path / "data.txt", tmp_path / "model.sops"
    data.write_text(FILES[kind], encoding="utf-8")
    options = ["--head", head, "--tfidf", "--quiet", "--threads", "1"]
    assert main(["train", str(data), "-o", str(model), *options]) == 0
    said = child.run(ALONE, "predict", model, data, "-k", "2", "--json").stdout
    found = [json.loads(line) for line in said.splitlines()]
    whole = CliModel.load(str(model))
    expected = [row for block in whole.predictions(str(data), 2) for row in block]
    assert [(one["labels"], one["probabilities"]) for one in found] == expected
    assert len(found) == FILES[kind].count("\n")
    if kind != "svmlight":  # whose rows are no text
        predictor = cso.Predictor.load(model)
        for line, (labels, p) in zip(FILES[kind].splitlines(), expected, strict=True):
            words = " ".join(word for word in line.split() if not word.startswith("__label__"))
            one = predictor.top_k(words, 2)
            assert [f"__label__{label}" for label in one.labels] == labels
            np.testing.assert_allclose(one.probabilities, p, rtol=1e-6)


def test_repeated_indices_are_summed_as_scipy_does():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 9, 50)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.integers(0, 6, lengths.sum())
    values = rng.standard_normal(len(ids)).astype(np.float32)
    X = sparse.csr_array((values, ids, indptr), shape=(50, 6))
    found = summed(Compressed(indptr, ids, values, (50, 6), "csr"))
    X.sum_duplicates()
    assert found.indptr.tolist() == X.indptr.tolist()
    assert found.indices.tolist() == X.indices.tolist()
    assert found.data.tobytes() == X.data.tobytes()

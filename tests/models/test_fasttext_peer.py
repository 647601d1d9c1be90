"""load_fasttext against fastText itself, on models that it trains here; skipped where it is
missing. tests/benchmarks/fasttext_checks.py prints the figures of these comparisons."""

import numpy as np
import pytest

import cython_sparseops as cso
from benchmarks.fasttext_checks import KINDS, compare, trained

fasttext = pytest.importorskip("fasttext")

# fastText adds 1e-5 inside each logarithm: with that put in, what is left is float32.
EXACT, OFFSET = 1e-4, 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_fasttext(kind, tmp_path):
    path, lines = trained(fasttext, kind, tmp_path, seed=1)
    found = compare(fasttext, path, lines)
    assert found.texts >= 1500
    assert found.top_1_differ == 0
    assert found.exact <= EXACT
    assert found.offset <= OFFSET


def test_one_text_has_the_label_and_score_that_fasttext_prints(tmp_path):
    path, lines = trained(fasttext, "words", tmp_path, seed=2)
    peer, model = fasttext.load_model(str(path)), cso.load_fasttext(path)
    texts = [line.partition(" ")[2] for line in lines[:20]]
    found = model.top_k(texts, 3)
    scores = np.exp(model.offset_log_proba(texts, found.labels))
    for i, text in enumerate(texts):
        answer = peer.f.predict(text + "\n", 3, 0.0, "strict")  # without labels below 1e-5
        assert len(answer) > 0
        for (score, label), wanted, own in zip(answer, found.labels[i], scores[i], strict=False):
            assert label == wanted
            assert abs(score - own) <= OFFSET

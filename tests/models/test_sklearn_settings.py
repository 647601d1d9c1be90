"""What scikit-learn's own switches do to the estimators: metadata routing, array-API dispatch."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")

import sklearn
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from cython_sparseops.sklearn import HSoftmaxClassifier, LabelTreeClassifier


def bags():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 4, 120)
    X = rng.poisson(0.2, (120, 12)).astype("f")
    X[np.arange(120), 3 * y] += 2
    return X, y


@pytest.mark.parametrize(
    "classifier",
    [HSoftmaxClassifier(hidden_dim=8, random_state=0), LabelTreeClassifier(random_state=0)],
    ids=lambda one: type(one).__name__,
)
def test_sample_weight_is_routed_through_a_pipeline_and_a_search(classifier):
    X, y = bags()
    weight = np.where(y == 3, 0.0, 1.0)
    plain = classifier.fit(MaxAbsScaler().fit_transform(X), y, sample_weight=weight)
    want = plain.predict_proba(MaxAbsScaler().fit_transform(X))
    with sklearn.config_context(enable_metadata_routing=True):
        asks = sklearn.base.clone(classifier).set_fit_request(sample_weight=True)
        asks.set_score_request(sample_weight=True)
        pipe = make_pipeline(MaxAbsScaler(), asks)
        routed = pipe.fit(X, y, sample_weight=weight).predict_proba(X)
        assert routed.tobytes() == want.tobytes()
        search = GridSearchCV(pipe, {f"{pipe.steps[-1][0]}__random_state": [0]}, cv=2)
        found = search.fit(X, y, sample_weight=weight).best_estimator_.predict_proba(X)
        assert found.tobytes() == want.tobytes()
        silent = sklearn.base.clone(classifier)
        with pytest.raises(ValueError, match="sample_weight"):
            GridSearchCV(silent, {"random_state": [0]}, cv=2).fit(X, y, sample_weight=weight)
    unweighted = sklearn.base.clone(classifier).fit(MaxAbsScaler().fit_transform(X), y)
    assert unweighted.predict_proba(MaxAbsScaler().fit_transform(X)).tobytes() != want.tobytes()


PROGRAM = """
import numpy as np, sklearn
from cython_sparseops.sklearn import HSoftmaxClassifier, LabelTreeClassifier
rng = np.random.default_rng(1)
y = rng.integers(0, 4, 120)
X = rng.poisson(0.2, (120, 12)).astype("f")
X[np.arange(120), 3 * y] += 2
for kind in (HSoftmaxClassifier, LabelTreeClassifier):
    make = lambda: kind(random_state=0)
    plain = make().fit(X, y)
    with sklearn.config_context(array_api_dispatch=True):
        under = make().fit(X, y)
        assert under.predict_proba(X).tobytes() == plain.predict_proba(X).tobytes()
        assert (under.predict(X) == plain.predict(X)).all()
        assert under.score(X, y) == plain.score(X, y) > 0.8
print("done")
"""


def test_array_api_dispatch_changes_nothing():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "done\n", done.stderr

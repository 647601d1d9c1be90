"""scikit-learn's callbacks on a training: what they are told, and an end that one asks for."""

import numpy as np
import pytest

pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9 has callbacks")

from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.model_selection import GridSearchCV

from cython_sparseops.sklearn import HSoftmaxClassifier, LabelTreeClassifier


def bags():
    rng = np.random.default_rng(1)
    y = np.array(["a", "b", "c", "d"])[rng.integers(0, 4, 120)]
    X = rng.poisson(0.2, (120, 12)).astype("f")
    X[np.arange(120), 3 * np.unique(y, return_inverse=True)[1]] += 2
    return X, y


def classifier(**settings):
    settings = {"epochs": 4, "early_stopping": False, "random_state": 0} | settings
    return HSoftmaxClassifier(**settings)


class Recorder:
    """What the hooks were told, in order; asks to stop after the pass `last`."""

    def __init__(self, last=None):
        self.last, self.seen = last, []

    def setup(self, estimator, context):
        self.seen.append("setup")

    def teardown(self, estimator, context):
        self.seen.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.seen.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.seen.append(("end", context.task_name, context.task_id))
        self.score = fitted_estimator.score(X, y, **(metadata or {}))
        return context.task_name == "epoch" and context.task_id == self.last


def test_a_pass_is_a_task_and_the_model_is_the_one_without_callbacks():
    X, y = bags()
    recorder = Recorder()
    watched = classifier().set_callbacks(recorder).fit(X, y)
    passes = [(at, "epoch", i) for i in range(4) for at in ("begin", "end")]
    whole = ("fit", 0)
    assert recorder.seen == ["setup", ("begin", *whole), *passes, ("end", *whole), "teardown"]
    plain = classifier().fit(X, y)
    assert watched.predict_proba(X).tobytes() == plain.predict_proba(X).tobytes()
    assert recorder.score == plain.score(X, y)
    assert set(vars(watched)) - set(vars(plain)) == {"_skl_callbacks"}


def test_a_callback_ends_the_training():
    X, y = bags()
    recorder = Recorder(last=1)
    stopped = classifier().set_callbacks(recorder).fit(X, y, sample_weight=np.ones(120))
    assert recorder.seen[-4:] == [
        ("begin", "epoch", 1),
        ("end", "epoch", 1),
        ("end", "fit", 0),
        "teardown",
    ]
    assert stopped.history_[-1].epoch == 2
    assert stopped.score(X, y) > 0.5
    early = classifier(early_stopping=True, epochs=30).set_callbacks(Recorder(last=0)).fit(X, y)
    assert early.history_[-1].epoch == 1


def test_early_stopping_ends_no_task_that_was_not_begun():
    X, y = bags()
    recorder = Recorder()
    stopped = classifier(early_stopping=True, epochs=200).set_callbacks(recorder).fit(X, y)
    begun = [one[2] for one in recorder.seen if one[:2] == ("begin", "epoch")]
    assert begun == [one[2] for one in recorder.seen if one[:2] == ("end", "epoch")]
    assert len(begun) == stopped.history_[-1].epoch


def test_a_fit_that_a_callback_breaks_is_torn_down_and_undone():
    X, y = bags()

    class Breaks(Recorder):
        def on_fit_task_begin(self, estimator, context):
            raise KeyboardInterrupt

    recorder = Breaks()
    broken = classifier().set_callbacks(recorder)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(X, y)
    assert recorder.seen == ["setup", "teardown"]
    assert vars(broken) == vars(classifier()) | {"_skl_callbacks": [recorder]}


def test_scores_of_each_pass():
    X, y = bags()
    monitor = ScoringMonitor(scoring="accuracy")
    classifier().set_callbacks(monitor).fit(X, y)
    rows = monitor.get_logs().data
    scores = [row["accuracy"] for row in rows if row["task_name"] == "epoch"]
    assert len(scores) == 4
    assert scores[-1] >= scores[0] > 0.2


def test_the_progress_bar_of_scikit_learn(capsys):
    pytest.importorskip("rich", reason="the progress bar needs it")
    classifier().set_callbacks(ProgressBar()).fit(*bags())
    assert "HSoftmaxClassifier" in capsys.readouterr().out


def test_a_search_clones_and_fits_what_has_callbacks():
    X, y = bags()
    recorder = Recorder()
    search = GridSearchCV(classifier().set_callbacks(recorder), {"epochs": [1, 2]}, cv=2)
    assert search.fit(X, y).best_score_ > 0.5
    assert clone(search.best_estimator_).get_params()["epochs"] in (1, 2)


def test_a_tree_is_a_task_and_a_callback_may_be_content_with_fewer():
    X, y = bags()
    plain = LabelTreeClassifier(n_trees=3, random_state=0).fit(X, y)
    recorder = Recorder()
    watched = LabelTreeClassifier(n_trees=3, random_state=0).set_callbacks(recorder).fit(X, y)
    trees = [(at, "tree", i) for i in range(3) for at in ("begin", "end")]
    whole = ("fit", 0)
    assert recorder.seen == ["setup", ("begin", *whole), *trees, ("end", *whole), "teardown"]
    assert watched.predict_proba(X).tobytes() == plain.predict_proba(X).tobytes()
    assert recorder.score == plain.score(X, y)

    class Content(Recorder):
        def on_fit_task_end(self, estimator, context):
            return context.task_name == "tree"

    several = np.eye(4, dtype=int)[np.unique(y, return_inverse=True)[1]]
    fewer = LabelTreeClassifier(n_trees=3, random_state=0).set_callbacks(Content())
    assert len(fewer.fit(X, several, sample_weight=np.ones(120)).model_.trees) == 1

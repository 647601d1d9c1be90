"""scikit-learn's callbacks, which begin with 1.9: a task for each pass or tree of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from cython_sparseops._arrays import Array
from cython_sparseops._models.bag import Progress

__all__ = [
    "CallbackSupportMixin",
    "Follow",
    "each_as_task",
    "fit_task",
    "has_callbacks",
    "with_callbacks",
]

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """No `set_callbacks` here."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        return method


Follow = Callable[[Iterator[Progress]], Iterator[Progress]]
Work = TypeVar("Work")


def has_callbacks(estimator: Any) -> bool:
    """Whether some were set."""
    return bool(getattr(estimator, "_skl_callbacks", None))


def _told(estimator: Any, X: Any, y: Any, sample_weight: Array | None) -> dict[str, Any]:
    """What every hook is told."""
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    told = {"estimator": estimator, "X": X, "y": y, "reconstruction_attributes": {}}
    return told | {"metadata": metadata}


def each_as_task(
    estimator: Any, name: str, works: Sequence[Work], X: Any, y: Any, sample_weight: Array | None
) -> Iterator[Work]:
    """Yield each of some parts of a fit while a task for it runs, inside a method `with_callbacks`.

    Parameters
    ----------
    estimator : BaseEstimator
        What is trained; after each part a copy of it must be able to predict.
    name : str
        Of the tasks.
    works : sequence
        The parts. A callback that asks to stop ends them.
    X, y, sample_weight : array
        What it is trained on.
    """
    fit = estimator._init_callback_context(max_subtasks=len(works))
    told = _told(estimator, X, y, sample_weight)
    fit.call_on_fit_task_begin(**told)
    for work in works:
        task = fit.subcontext(task_name=name)
        task.call_on_fit_task_begin(**told)
        yield work
        if task.call_on_fit_task_end(**told):
            break
    fit.call_on_fit_task_end(**told)


@contextmanager
def fit_task(
    estimator: Any, epochs: int, X: Any, y: Array, sample_weight: Array | None
) -> Iterator[Follow]:
    """The task of a whole fit, inside a method `with_callbacks`.

    Parameters
    ----------
    estimator : BaseEstimator
        What is trained; a copy of it must be able to predict.
    epochs : int
        Passes, at most.
    X, y, sample_weight : array
        What it is trained on.

    Yields
    ------
    Follow
        Makes each pass of a training a task. A callback that asks to stop ends the training after
        the pass.
    """
    if not has_callbacks(estimator):
        yield iter
        return
    fit = estimator._init_callback_context(max_subtasks=epochs)
    told = _told(estimator, X, y, sample_weight)

    def follow(training: Iterator[Progress]) -> Iterator[Progress]:
        done = False
        while not done:
            task = fit.subcontext(task_name="epoch")
            task.call_on_fit_task_begin(**told)
            for progress in training:
                if over := progress.examples % len(y) == 0:
                    stop = task.call_on_fit_task_end(**told)
                    done = stop or progress.examples == progress.total_examples
                yield progress
                if over:
                    break
            else:
                return

    fit.call_on_fit_task_begin(**told)
    yield follow
    fit.call_on_fit_task_end(**told)

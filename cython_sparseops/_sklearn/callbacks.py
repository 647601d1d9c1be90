"""scikit-learn's callbacks, which begin with 1.9: a task for each pass of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cython_sparseops._models.bag import Progress

__all__ = ["CallbackSupportMixin", "begin", "by_epoch", "with_callbacks"]

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """No `set_callbacks` here."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        return method


def begin(estimator: Any, epochs: int) -> Any:
    """Begin the task of the whole fit, inside a method `with_callbacks`; None without callbacks."""
    if getattr(estimator, "_skl_callbacks", None):
        return estimator._init_callback_context(max_subtasks=epochs)
    return None


def by_epoch(
    training: Iterator[Progress], fit: Any, rows: int, told: dict[str, Any]
) -> Iterator[Progress]:
    """Pass the reports of a training through, each of its passes a task of `fit`.

    A callback that asks to stop ends the training after the pass.

    Parameters
    ----------
    training : iterator of Progress
    fit : CallbackContext
        The task of the whole fit.
    rows : int
        Examples in a pass.
    told : dict
        What the hooks are told: `estimator`, `X`, `y`, `metadata`, `reconstruction_attributes`.

    Yields
    ------
    Progress
    """
    done = False
    while not done:
        task = fit.subcontext(task_name="epoch")
        task.call_on_fit_task_begin(**told)
        for progress in training:
            if over := progress.examples % rows == 0:
                stop = task.call_on_fit_task_end(**told)
                done = stop or progress.examples == progress.total_examples
            yield progress
            if over:
                break
        else:
            return

"""Tasks over joblib's workers, of whatever backend, that outlive a worker."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ._arrays import as_integer
from ._runtime import get_num_threads

ATTEMPTS = 3


def count_jobs(n_jobs: int | None) -> int:
    """How many workers that is: 1 without joblib, which comes with scikit-learn."""
    if n_jobs == 1 or (n_jobs is None and "joblib" not in sys.modules):
        return 1
    try:
        from joblib import effective_n_jobs
    except ImportError as error:
        raise ImportError("n_jobs needs joblib: pip install joblib") from error
    return int(effective_n_jobs(None if n_jobs is None else as_integer("n_jobs", n_jobs)))


def idle_threads(num_threads: int | None, jobs: int) -> int | None:
    """How many threads what this process does alone may take: those of all workers, which wait.

    No more than `get_num_threads` says, unless a worker has more.
    """
    if num_threads is None or jobs == 1:
        return num_threads
    own = as_integer("num_threads", num_threads, 1)
    return max(own, min(own * jobs, get_num_threads()))


def in_jobs(function: Callable[..., Any], tasks: Sequence[Any], n_jobs: int | None) -> list[Any]:
    """``[function(*task) for task in tasks]``, each by some worker of joblib.

    What a worker that died leaves behind runs again, so the result does not show it. Without
    n_jobs, and outside of ``joblib.parallel_config``, all run here.
    """
    if len(tasks) < 2 or count_jobs(n_jobs) == 1:
        return [function(*task) for task in tasks]
    from joblib import delayed

    done: dict[int, Any] = {}
    for attempt in range(ATTEMPTS):
        left = [i for i in range(len(tasks)) if i not in done]
        try:
            done.update(_workers(n_jobs)(delayed(_numbered)(i, function, tasks[i]) for i in left))
        except Exception as error:
            if not _is_a_lost_worker(error) or attempt + 1 == ATTEMPTS:
                raise
    return [done[i] for i in range(len(tasks))]


def _workers(n_jobs: int | None) -> Any:
    """What runs tasks and gives each result as soon as it is there, where the backend can."""
    from joblib import Parallel

    try:
        return Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    except (TypeError, ValueError):  # of joblib before 1.4, and of multiprocessing
        return Parallel(n_jobs=n_jobs)


def _numbered(i: int, function: Callable[..., Any], task: Any) -> tuple[int, Any]:
    return i, function(*task)


def _is_a_lost_worker(error: BaseException) -> bool:
    from concurrent.futures import CancelledError  # both take long to import, for no one else
    from concurrent.futures.process import BrokenProcessPool

    lost: tuple[type[BaseException], ...] = (BrokenProcessPool, CancelledError)
    distributed = sys.modules.get("distributed")
    if distributed is not None:
        lost += (distributed.scheduler.KilledWorker,)
    return any(isinstance(one, lost) for one in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__

"""The processes of joblib's backends give the same bytes, on their part of the cores."""

import multiprocessing
import os

from joblib import Parallel, delayed

import cython_sparseops as cso
from helpers.large_call import LargeCall

call = LargeCall()


def work(_, h, X):
    nll = cso.hsoftmax(X, call.W, call.b, call.labels, h)
    return nll.tobytes(), cso.get_num_threads()


if __name__ == "__main__":
    alone = call(num_threads=3).tobytes()
    calls = [delayed(work)(i, call.h, call.X) for i in range(4)]
    # loky deals out the cores, unless whoever started it has said how many threads there are.
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    share = int(said) if said else max(1, os.cpu_count() // 2)
    # The older backend deals out nothing: forked processes have one thread, others what was said.
    forks = multiprocessing.get_start_method() == "fork"
    older = 1 if forks else int(said or os.cpu_count())
    for backend, most in (("loky", share), ("multiprocessing", older)):
        found = Parallel(2, backend=backend, max_nbytes=1000, timeout=40)(calls)
        assert {nll for nll, _ in found} == {alone}
        assert max(n for _, n in found) <= most, backend

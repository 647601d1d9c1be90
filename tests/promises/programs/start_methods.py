"""How many worker threads a large call starts in a process of multiprocessing.

Arguments: the start method; 1 to make a large call before the process starts, 0 to make none.
"""

import multiprocessing
import sys

from helpers.large_call import LargeCall, tasks


def work(expected):
    call, before = LargeCall(rows=1000), len(tasks())
    result = call(num_threads=3).tobytes()
    assert expected is None or result == expected
    return len(tasks()) - before


if __name__ == "__main__":
    method, called = sys.argv[1:]
    context = multiprocessing.get_context(method)
    if method == "forkserver":  # as Python 3.14 does: the server imports the library, then forks
        context.set_forkserver_preload(["cython_sparseops", "helpers.large_call"])
    expected = LargeCall(rows=1000)(num_threads=3).tobytes() if called == "1" else None
    with context.Pool(1) as pool:
        print(pool.apply_async(work, [expected]).get(timeout=40))

"""Processes that multiprocessing starts anew import this file, and give the same bytes."""

import multiprocessing

from helpers.large_call import LargeCall

call = LargeCall()


def work(_):
    return call(num_threads=2).tobytes()


if __name__ == "__main__":
    alone = call(num_threads=3).tobytes()
    methods = {"forkserver", "spawn"} & set(multiprocessing.get_all_start_methods())
    for method in methods:
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.map_async(work, range(2)).get(timeout=40) == [alone] * 2
    print(*sorted(methods))

#!/usr/bin/env bash
# The Python tests on extension modules built under sanitizers (g++ on Linux): address and undefined behaviour, or threads.
# tests/sanitize.sh [thread] [arguments of pytest, instead of the core's tests, or `hostile` and those of tests/hostile/run.py]
set -euo pipefail
cd "$(dirname "$0")/.."

kind=address flags="-fsanitize=address,undefined -fno-sanitize-recover=all" openmp=ON runtime=libasan.so
if [ "${1:-}" = thread ]; then  # an OpenMP runtime that was not built for it looks like a race
  kind=thread flags="-fsanitize=thread" openmp=OFF runtime=libtsan.so
  export HYPOTHESIS_PROFILE="${HYPOTHESIS_PROFILE:-emulated}"  # fewer generated inputs: races do not hide in them
  export OPENBLAS_NUM_THREADS=1  # NumPy's own threads, of which the sanitizer knows nothing
  shift
fi
venv="build/sanitize-$kind/venv"
[ -d "$venv" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet -C build-dir="build/sanitize-$kind/cmake" -C cmake.build-type=RelWithDebInfo \
  -C cmake.define.CMAKE_CXX_FLAGS="$flags" -C cmake.define.SPARSEOPS_OPENMP="$openmp" '.[test]'

# Python is not sanitized itself: the run time comes first, and what Python keeps until its end is no leak. Sizes that no
# memory holds are NumPy's to refuse.
LD_PRELOAD="$(gcc -print-file-name="$runtime") $(gcc -print-file-name=libstdc++.so)"
export LD_PRELOAD TSAN_OPTIONS=halt_on_error=1:die_after_fork=0:second_deadlock_stack=1
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=6144
export UBSAN_OPTIONS=print_stacktrace=1
if [ "${1:-}" = hostile ]; then
  exec "$venv/bin/python" -P tests/hostile/run.py --no-memory-limit "${@:2}"
fi
[ $# -gt 0 ] || set -- tests/operators tests/models/test_{bag,storage}.py \
  tests/promises/test_{hsoftmax_promises,normalize_promises,storage_interrupted,threads}.py
exec "$venv/bin/python" -P -m pytest -q -p no:cacheprovider "$@"

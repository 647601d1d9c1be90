#!/usr/bin/env bash
# The Python tests on extension modules built under the address and undefined-behaviour sanitizers (g++ on Linux):
# tests/sanitize.sh [arguments of pytest, or `hostile` and those of tests/hostile/run.py]
set -euo pipefail
cd "$(dirname "$0")/.."

venv=build/sanitize/venv
[ -d "$venv" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet -C build-dir=build/sanitize/cmake -C cmake.build-type=RelWithDebInfo \
  -C cmake.define.CMAKE_CXX_FLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all" '.[test]'

# Python is not sanitized itself: the run time comes first, and what Python keeps until its end is no leak. Sizes that no
# memory holds are NumPy's to refuse.
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)"
export LD_PRELOAD ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=6144
export UBSAN_OPTIONS=print_stacktrace=1
if [ "${1:-}" = hostile ]; then
  exec "$venv/bin/python" -P tests/hostile/run.py --no-memory-limit "${@:2}"
fi
exec "$venv/bin/python" -P -m pytest -q -p no:cacheprovider tests "$@"

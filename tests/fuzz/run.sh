#!/usr/bin/env bash
# Builds the fuzz targets with Clang and runs each for some seconds: tests/fuzz/run.sh [seconds a target [target …]]
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-60}
shift || true
targets=("$@")
[ $# -gt 0 ] || for source in *.cpp; do [ "$source" = replay.cpp ] || targets+=("${source%.cpp}"); done
build=${FUZZ_BUILD:-../../build/fuzz}

cmake -S ../.. -B "$build" -DSPARSEOPS_FUZZ=ON -DSPARSEOPS_OPENMP=OFF \
  -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_COMPILER="${CXX:-clang++}" >/dev/null
cmake --build "$build" -j2 --target "${targets[@]/#/fuzz_}"
for target in "${targets[@]}"; do
  printf '\n== %s, %ss\n' "$target" "$seconds"
  found="$build/found/$target"  # new inputs; what fails lies beside the folder
  mkdir -p "$found"
  "$build/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -len_control=0 -max_len=3000 -timeout=20 -rss_limit_mb=2048 \
    -artifact_prefix="$found-" "$found" "corpus/$target" >"$found.log" 2>&1 || { tail -n 40 "$found.log"; exit 1; }
  tail -n 1 "$found.log"
done

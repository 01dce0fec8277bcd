#!/usr/bin/env bash
# Configures and builds into build/ (Release).
#
#   scripts/build.sh              the program and the tests
#   scripts/build.sh norma        the program alone; any other targets likewise
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

for tool in cmake ninja; do
  command -v "$tool" >/dev/null || fail "$tool is missing: run scripts/setup.sh first" 2
done

mkdir -p .cache/logs
quietly .cache/logs/cmake.log cmake -G Ninja -B build -S . -DCMAKE_BUILD_TYPE=Release
grep -E '^-- LibTorch' .cache/logs/cmake.log | sed 's/^-- //' || true
parallel=$(parallel_jobs)
say "building ${*:-everything} with $parallel jobs"
cmake --build build --parallel "$parallel" ${1:+--target "$@"}
say "built in $(duration "$SECONDS")"

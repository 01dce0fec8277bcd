#!/usr/bin/env bash
# Configures and builds into build/ (Release).
#
#   scripts/build.sh              the program and the tests
#   scripts/build.sh norma        the program alone; any other targets likewise
#   scripts/build.sh --sanitize [targets]
#                                 into build-sanitize/, with AddressSanitizer and UndefinedBehaviorSanitizer: by default
#                                 the tests of rooms without LibTorch, which "ctest --test-dir build-sanitize -L no_torch"
#                                 runs; the target "all" adds the program and the other tests
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

folder=build
build_type=Release
if [ "${1:-}" = --sanitize ]; then
  folder=build-sanitize
  build_type=Sanitize
  shift
  if [ $# = 0 ]; then set -- tests_without_torch; fi
fi

for tool in cmake ninja; do
  command -v "$tool" >/dev/null || fail "$tool is missing: run scripts/setup.sh first" 2
done

mkdir -p .cache/logs
quietly ".cache/logs/cmake-$folder.log" cmake -G Ninja -B "$folder" -S . -DCMAKE_BUILD_TYPE="$build_type"
grep -E '^-- LibTorch' ".cache/logs/cmake-$folder.log" | sed 's/^-- //' || true
parallel=$(parallel_jobs)
say "building ${*:-everything} in $folder/ with $parallel jobs"
cmake --build "$folder" --parallel "$parallel" ${1:+--target "$@"}
say "built in $(duration "$SECONDS")"

#!/usr/bin/env bash
# clang-format over all sources, and clang-tidy (naming rules on) over the files that differ from the record of what
# passed, scripts/tidy_passed.txt: scripts/tidy.py says how.
#
#   scripts/lint.sh            both; what scripts/test.sh runs
#   scripts/lint.sh --record   both, clang-tidy over all that differs, and writes the record when nothing is found
#   scripts/lint.sh --all      both, clang-tidy over the whole tree
#   scripts/lint.sh --format   clang-format alone
#   scripts/lint.sh --tidy     clang-tidy alone
#
# clang-tidy needs a configured build/ (or NORMA_BUILD=<folder>).
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

steps="format tidy"
tidy_arguments=()
for argument in "$@"; do
  case "$argument" in
    --all | --record) tidy_arguments+=("$argument") ;;
    --format) steps=format ;;
    --tidy) steps=tidy ;;
    *) fail "lint.sh: unknown argument '$argument'; allowed: --all, --record, --format, --tidy" 2 ;;
  esac
done

# Tracked files and new ones, without those that are deleted; without git, whatever lies in the source folders.
source_files() {
  if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git ls-files --cached --others --exclude-standard -- '*.h' '*.cpp' '*.cu' '*.cuh'
  else
    find include src tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh'
  fi | sort -u | while read -r file; do if [ -e "$file" ]; then say "$file"; fi; done
}

check_format() {
  local files differing
  command -v clang-format >/dev/null || fail "clang-format is missing: run scripts/setup.sh" 2
  mapfile -t files < <(source_files)
  if clang-format --dry-run -Werror "${files[@]}" >/dev/null 2>&1; then
    say "clang-format: ${#files[@]} files, nothing to change"
    return
  fi
  mapfile -t differing < <(for file in "${files[@]}"; do
    clang-format --dry-run -Werror "$file" >/dev/null 2>&1 || say "$file"
  done)
  say "clang-format: ${#differing[@]} of ${#files[@]} files differ; 'clang-format -i FILE' corrects them:"
  printf '  %s\n' "${differing[@]}"
  return 1
}

check_tidy() {
  local build="${NORMA_BUILD:-build}"
  [ -x .venv/bin/clang-tidy ] || command -v clang-tidy >/dev/null || fail "clang-tidy is missing: run scripts/setup.sh" 2
  [ -e "$build/compile_commands.json" ] || fail "$build/compile_commands.json is missing: run scripts/build.sh first" 2
  python3 scripts/tidy.py --build "$build" --jobs "$(parallel_jobs)" ${tidy_arguments[@]+"${tidy_arguments[@]}"}
}

# 1 when a step found something; else 77 when clang-tidy left files out; else 0.
status=0
for step in $steps; do
  result=0
  "check_$step" || result=$?
  if [ "$result" != 0 ] && [ "$status" != 1 ]; then status=$result; fi
done
exit "$status"

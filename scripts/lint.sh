#!/usr/bin/env bash
# clang-format over all sources, and clang-tidy (naming rules on) over the files touched by the last 20 commits.
#
#   scripts/lint.sh            both; what scripts/test.sh runs
#   scripts/lint.sh --all      clang-tidy over the whole tree
#   scripts/lint.sh --format   clang-format alone
#   scripts/lint.sh --tidy     clang-tidy alone; needs a configured build/ (or NORMA_BUILD=<folder>)
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

steps="format tidy"
tidy_arguments=()
for argument in "$@"; do
  case "$argument" in
    --all) tidy_arguments+=(--all) ;;
    --format) steps=format ;;
    --tidy) steps=tidy ;;
    *) fail "lint.sh: unknown argument '$argument'; allowed: --all, --format, --tidy" 2 ;;
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
  command -v clang-tidy >/dev/null || fail "clang-tidy is missing: run scripts/setup.sh" 2
  [ -e "$build/compile_commands.json" ] || fail "$build/compile_commands.json is missing: run scripts/build.sh first" 2
  python3 scripts/tidy.py --build "$build" --jobs "$(parallel_jobs)" ${tidy_arguments[@]+"${tidy_arguments[@]}"}
}

status=0
for step in $steps; do
  "check_$step" || status=1
done
exit "$status"

# shellcheck shell=bash
# Sourced by the other scripts: the project's folder, messages, and how many jobs this machine can run.
set -euo pipefail

NORMA_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$NORMA_ROOT"

# CMake builds for CUDA when it finds nvcc, whose usual folder is often not on PATH.
if [ -x /usr/local/cuda/bin/nvcc ]; then PATH="/usr/local/cuda/bin:$PATH"; fi

say() { printf '%s\n' "$*"; }
fail() {
  printf 'error: %s\n' "$1" >&2
  exit "${2:-1}"
}

# Seconds as "12 s" or "3 min 05 s".
duration() {
  if [ "$1" -lt 60 ]; then
    printf '%d s' "$1"
  else
    printf '%d min %02d s' $(($1 / 60)) $(($1 % 60))
  fi
}

# Memory that this process may use, in MiB: that of the machine, or the limit of its control group when that is lower.
memory_mib() {
  local mib limit
  mib=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo 2>/dev/null || true)
  limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || true)
  case "$limit" in
    '' | *[!0-9]*) ;;
    *) if [ $((limit / 1048576)) -lt "${mib:-0}" ]; then mib=$((limit / 1048576)); fi ;;
  esac
  say "${mib:-3072}"
}

# Cores that this process may use. Left to itself nproc obeys OMP_NUM_THREADS.
cores() { env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc; }

# One compiler per core, as far as there are 3 GiB for each, which LibTorch's headers may take.
parallel_jobs() {
  local jobs by_memory
  jobs=$(cores)
  by_memory=$(($(memory_mib) / 3072))
  if [ "$by_memory" -lt 1 ]; then by_memory=1; fi
  say $((jobs < by_memory ? jobs : by_memory))
}

# Runs a command with its output in a log file, whose end is shown when the command fails.
quietly() {
  local log="$1"
  shift
  mkdir -p "$(dirname "$log")"
  if ! "$@" >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    fail "failed: $* (its whole output: $log)"
  fi
}

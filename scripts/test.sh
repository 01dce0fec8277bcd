#!/usr/bin/env bash
# Sets up, builds and runs every test, the fast profiles of lint and campaigns included (they are ctest tests too).
# Starts from a bare Debian 12 machine. The end of the output and the exit code are ctest's.
#
#   scripts/test.sh [arguments of ctest]        e.g. scripts/test.sh -R NormPlan
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

scripts/setup.sh
scripts/build.sh

# Tests run side by side, one per core: each keeps to one thread, and waiting threads sleep instead of spinning.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
say "testing (after $(duration "$SECONDS"))"
exec ctest --test-dir build --output-on-failure --no-tests=error -j "$(nproc)" "$@"

#!/usr/bin/env bash
# Sets up, builds and runs every test, with lint and the short forms of the campaigns, which are ctest tests too. Starts
# from a bare Debian 12 machine. The end of the output and the exit code are ctest's. A test of ctest is a whole suite of
# GoogleTest; one that is said to be skipped has cases that could not run here, and its output names them.
#
#   scripts/test.sh [arguments of ctest]        e.g. scripts/test.sh -R NormPlan
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

scripts/setup.sh
scripts/build.sh
scripts/build.sh --sanitize

# Tests run side by side, one per core. Each keeps to one thread, and threads that wait sleep instead of spinning.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
say "testing (after $(duration "$SECONDS"))"
exec ctest --test-dir build --output-on-failure --no-tests=error -j "$(cores)" "$@"

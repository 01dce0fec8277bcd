#!/usr/bin/env bash
# Trains two small language models on real text, starting from a bare Debian 12 machine: one with HybridNorm* and one with
# Pre-Norm, on the same tokens in the same order and from the same initial draw. A second run reuses what is there.
#
#   scripts/quickstart.sh [--text PATH]... [--minutes N] [--config FILE] [--presets LIST] [--folder DIR]
#
#   --text PATH    train on your own .txt, .md, .rst or .jsonl files (.gz and .zst too) or folders of them, instead of
#                  the Linux kernel's documentation out of a Debian package; may be given more than once
#   --minutes N    train each model for about N minutes on this machine, instead of the steps that the config asks for
#   --config FILE  another model: configs/moe-tiny.yaml, configs/mla-tiny.yaml; default configs/quickstart.yaml
#   --presets LIST the placements to train, in order; default "hybrid_star pre"
#   --folder DIR   where everything is written; default runs/quickstart, or runs/quickstart-<config>
caller_folder="$PWD"
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

config=configs/quickstart.yaml
presets="hybrid_star pre"
vocab_size=8192
prompt="The kernel"
expectation="Both models learn real structure in these minutes: more than counting words, and more than counting pairs of \
words. In a run this short HybridNorm* is a little behind Pre-Norm; its advantage is reported after billions of tokens. \
What this shows is that both placements train from the same config, data order and initial draw."
texts=()
minutes=""
folder=""

from_caller() { case "$1" in /*) say "$1" ;; *) say "$caller_folder/$1" ;; esac }
usage() { sed -n '5,12p' scripts/quickstart.sh | sed 's/^# \{0,3\}//'; }

while [ $# -gt 0 ]; do
  case "$1" in
    --help | -h) usage; exit 0 ;;
    --text | --minutes | --config | --presets | --folder) [ $# -ge 2 ] || fail "quickstart.sh: $1 needs a value" 2 ;;
    *) fail "quickstart.sh: unknown argument '$1'; allowed: --text, --minutes, --config, --presets, --folder" 2 ;;
  esac
  case "$1" in
    --text) texts+=("$(from_caller "$2")") ;;
    --minutes) minutes="$2" ;;
    --config) config="$(from_caller "$2")" ;;
    --presets) presets="$2" ;;
    --folder) folder="$(from_caller "$2")" ;;
  esac
  shift 2
done
case "$minutes" in *[!0-9]* | 0*) fail "quickstart.sh: --minutes must be a whole number from 1; got '$minutes'" 2 ;; esac
for path in ${texts[@]+"${texts[@]}"}; do
  [ -e "$path" ] || fail "quickstart.sh: --text $path does not exist" 3
done
if [ ${#texts[@]} -gt 0 ]; then prompt="The"; fi
[ -f "$config" ] || fail "quickstart.sh: --config $config does not exist" 2
name=$(basename "$config" .yaml)
if [ "$name" != quickstart ] || [ "$presets" != "hybrid_star pre" ]; then
  expectation="In minutes on a CPU a model should learn more than counting words and pairs of words; placements differ \
little before billions of tokens."
fi
if [ -z "$folder" ]; then
  folder=runs/quickstart
  [ "$name" = quickstart ] || folder="runs/quickstart-$name"
fi

trap 'printf "\nstopped; every finished stage is kept: run the same command again to go on\n" >&2; exit 130' INT TERM

# ---- Stages: a heading with the time so far, and the time each kind of work took ----

declare -A spent=([packages]=0 [build]=0 [data]=0 [training]=0)

# stage <kind> <heading> <function> [arguments]
stage() {
  local kind="$1" heading="$2" start=$SECONDS
  shift 2
  printf '\n== %s  (%s so far)\n' "$heading" "$(duration "$SECONDS")"
  "$@"
  spent[$kind]=$((${spent[$kind]} + SECONDS - start))
}

reused() { say "reused: $1"; }

# A YAML string: quotes keep spaces and brackets of a path from meaning anything.
quoted() { printf "'%s'" "${1//\'/\'\'}"; }

# ---- Real text ----

documentation=.cache/text/linux-doc

newest_documentation_package() {
  if apt-cache show linux-doc-6.1 >/dev/null 2>&1; then
    say linux-doc-6.1
  else
    apt-cache pkgnames linux-doc- | grep -E '^linux-doc-[0-9.]+$' | sort -V | tail -n 1
  fi
}

refresh_package_lists() {
  if [ "$(id -u)" = 0 ]; then
    apt-get update -q
  else
    sudo apt-get update -q
  fi
}

download_package() { (cd "$1" && apt-get download "$2"); }

get_documentation() {
  local work="$documentation.part" package
  if [ -d "$documentation" ]; then
    reused "$documentation"
    return
  fi
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    fail "the kernel's documentation comes from a Debian package; elsewhere give your own text: --text PATH" 2
  rm -rf "$work"
  mkdir -p "$work/unpacked"
  package=$(newest_documentation_package)
  if [ -z "$package" ] || ! download_package "$work" "$package" >/dev/null 2>&1; then
    quietly .cache/logs/apt-update.log refresh_package_lists
    package=$(newest_documentation_package)
    [ -n "$package" ] || fail "no package linux-doc-<version> is known here; give your own text: --text PATH" 3
    quietly .cache/logs/linux-doc.log download_package "$work" "$package"
  fi
  say "the Linux kernel's documentation from Debian's package $package"
  dpkg-deb --fsys-tarfile "$work"/linux-doc-*.deb | tar -x -C "$work/unpacked" --wildcards '*/html/_sources/*.rst.txt'
  mv "$work"/unpacked/usr/share/doc/linux-doc-*/html/_sources "$documentation"
  rm -rf "$work"
  say "$(find "$documentation" -type f | wc -l) files, $(du -sh --apparent-size "$documentation" | cut -f1)"
}

get_text() {
  if [ ${#texts[@]} -gt 0 ]; then
    say "your own: ${texts[*]}"
  else
    get_documentation
    texts=("$documentation")
  fi
}

# A folder holds one experiment: its settings are written down, and a start with other settings is refused.
check_settings() {
  local settings
  settings="text: ${texts[*]:-kernel documentation}"$'\n'"minutes: ${minutes:-as configured}"
  settings+=$'\n'"presets: $presets"$'\n'"config: $(sha256sum "$config" | cut -c1-16)"
  mkdir -p "$folder"
  if [ ! -e "$folder/quickstart.txt" ]; then
    say "$settings" >"$folder/quickstart.txt"
  elif [ "$(cat "$folder/quickstart.txt")" != "$settings" ]; then
    fail "$folder holds a quickstart with other settings ($(tr '\n' ' ' <"$folder/quickstart.txt")); give another --folder" 2
  fi
}

# ---- Data ----

train_tokenizer() {
  if [ -e "$folder/tokenizer.json" ]; then
    reused "$folder/tokenizer.json"
    return
  fi
  .venv/bin/python scripts/train_tokenizer.py "${texts[@]}" --vocab-size "$vocab_size" --out "$folder/tokenizer.json"
}

# Half a percent of the text. A small text gives 64 KiB, which is a few sequences, but at most a tenth of itself.
validation_fraction() {
  local bytes
  bytes=$(du -cb --apparent-size "${texts[@]}" | tail -n 1 | cut -f1)
  awk -v bytes="$bytes" 'BEGIN { f = 65536 / (bytes + 1); print (f < 0.005 ? 0.005 : f > 0.1 ? 0.1 : f) }'
}

prepare_tokens() {
  if [ -d "$folder/tokens" ]; then
    reused "$folder/tokens"
    return
  fi
  rm -rf "$folder/tokens.part"
  build/norma prepare "${texts[@]}" --tokenizer "$folder/tokenizer.json" --out "$folder/tokens.part" \
    --validation-fraction "$(validation_fraction)"
  mv "$folder/tokens.part" "$folder/tokens"
}

# ---- Training ----

# The overrides of the config that all runs have in common.
data_overrides() {
  say "data.paths=[$(quoted "$folder/tokens/train-*.npy")]"
  say "data.tokenizer=$(quoted "$folder/tokens/tokenizer.json")"
  say "eval.sets.validation=[$(quoted "$folder/tokens/validation-*.npy")]"
  say "eval.every=200"
}

# The first placement measures how many steps the minutes are; the others train for as many.
train_model() {
  local preset="$1" first="$folder/${presets%% *}" run="$folder/$1" status=0 overrides
  mapfile -t overrides < <(data_overrides)
  if [ -n "$minutes" ]; then
    overrides+=("train.max_duration=${minutes}min")
    mkdir -p "$run"
    if [ -e "$first/length.json" ] && [ ! -e "$run/length.json" ]; then cp "$first/length.json" "$run/"; fi
  fi
  build/norma train "$config" "norm.preset=$preset" "run.name=$name-$preset" "run.folder=$(quoted "$run")" \
    "${overrides[@]}" || status=$?
  if [ "$status" = 75 ]; then exit 75; fi
  [ "$status" = 0 ] || fail "norma train ended with exit code $status" "$status"
}

# ---- What came out ----

show_results() {
  local preset runs=()
  for preset in $presets; do
    runs+=("$folder/$preset")
    printf '\n%s writes:\n' "$preset"
    build/norma generate "$folder/$preset" --prompt "$prompt" --max-tokens 100 --temperature 0.8 --top-p 0.95 --seed 1 \
      --keep | sed 's/^/  | /'
  done
  say
  build/norma baseline "${runs[0]}" >/dev/null
  build/norma report "${runs[@]}" --introduction "$expectation" --out "$folder/report.md"
  say "What to expect: $expectation"
}

show_places() {
  say
  say "in          $NORMA_ROOT"
  say "report      $folder/report.md"
  say "runs        $(for preset in $presets; do printf '%s ' "$folder/$preset"; done)"
  say "tokens      $folder/tokens (tokenizer: $folder/tokenizer.json)"
  say "program     build/norma --help"
  say "another     build/norma train $config norm.preset=qkv 'data.paths=[$folder/tokens/train-*.npy]'"
  say
  say "time: packages $(duration "${spent[packages]}"), build $(duration "${spent[build]}")," \
    "data $(duration "${spent[data]}"), training $(duration "${spent[training]}"); in all $(duration "$SECONDS")"
}

check_settings
stage packages "Packages" scripts/setup.sh --no-tests
stage build "Build" scripts/build.sh norma
stage data "Text" get_text
stage data "Tokenizer" train_tokenizer
stage data "Tokens" prepare_tokens
for preset in $presets; do stage training "Training: $preset" train_model "$preset"; done
stage training "Results" show_results
show_places

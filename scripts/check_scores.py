#!/usr/bin/env python3
"""Checks what `norma eval --predictions` wrote against transformers running the same model.

    scripts/check_scores.py HF_FOLDER PREDICTIONS.jsonl [--tasks hellaswag,arc_easy,piqa] [--documents 50]

Prompts are made from their definitions, and every request is run alone, without batches, padding or a cache. For documents
from all over each task it compares the labels, the lengths of the continuations, their log-probabilities (to 1e-4 of the
value, or of one nat where the value is smaller), and the scores that follow from the log-probabilities in the file. The
folder comes from `norma export --to hf`; Python code in it is run. Exit code: 0 everything agrees, 1 something differs and
is named, 2 transformers, a file or a task is missing.
"""
import argparse
import json
import sys
from pathlib import Path

import peer_scoring

TOLERANCE = 1e-4
SHOWN = 5  # as many findings of a task are printed


def read_predictions(path):
    """The header, and task -> document number -> line. Documents that share a number are left out."""
    with open(path, encoding="utf-8") as file:
        header = json.loads(file.readline())
        if header.get("norma_predictions") != 1:
            raise ValueError(f"{path}: not predictions of norma eval in format 1")
        tasks, shared = {}, set()
        for text in file:
            line = json.loads(text)
            documents = tasks.setdefault(line["task"], {})
            if line["document"] in documents:
                shared.add((line["task"], line["document"]))
            documents[line["document"]] = line
    for task, number in shared:
        del tasks[task][number]
    return header, tasks


def spread(items, count):
    return items if not count or count >= len(items) else [items[i * len(items) // count] for i in range(count)]


def log_probability(torch, model, tokenizer, pair, context_length):
    # Both are encoded on their own, without a beginning-of-text token.
    context, text = (tokenizer.encode(part, add_special_tokens=False).ids for part in pair)
    query = (context + text[:-1])[-context_length:]
    logits = model(input_ids=torch.tensor([query]), use_cache=False).logits[0, -len(text) :].double()
    return logits.log_softmax(-1)[torch.arange(len(text)), torch.tensor(text)].sum().item()


def is_near(got, wanted):
    return abs(got - wanted) <= TOLERANCE * max(1.0, abs(wanted))


def findings_of(document, line, wanted):
    """The differences between a line of the file and the document as this script makes it."""
    texts = [text for _, text in document.pairs]
    given = {key: line.get(key) for key in ("label", "characters", "bytes")}
    expected = {"label": document.label, "characters": [len(text) for text in texts],
                "bytes": [len(text.encode()) for text in texts]}
    found = [f"{key} {given[key]}, expected {value}" for key, value in expected.items() if given[key] != value]
    values = line["log_probabilities"]
    if len(values) != len(texts):
        return found + [f"{len(values)} log-probabilities of {len(texts)} continuations"]
    found += [f"log-probability {value:.6f} of {text!r}, transformers {other:.6f}"
              for value, other, text in zip(values, wanted, texts) if not is_near(value, other)]
    scores = peer_scoring.scores_of(document, values)
    if scores.keys() != line["scores"].keys():
        return found + [f"scores {sorted(line['scores'])}, expected {sorted(scores)}"]
    return found + [f"{name} {line['scores'][name]}, expected {value}" for name, value in scores.items()
                    if abs(line["scores"][name] - value) > 1e-9 * max(1.0, abs(value))]


def check_task(task, lines, header, peer, arguments):
    torch, model, tokenizer = peer
    metric = next(iter(lines.values()))["metric"]
    documents = peer_scoring.load_documents(task, metric, arguments.data)
    known = [document for document in documents if document.number in lines]
    findings = [] if known else ["none of the task's documents is in the file"]
    requests, largest = 0, 0.0
    for document in spread(known, arguments.documents):
        wanted = [log_probability(torch, model, tokenizer, pair, header["context_length"]) for pair in document.pairs]
        line = lines[document.number]
        requests += len(wanted)
        differences = [abs(a - b) for a, b in zip(line["log_probabilities"], wanted)]
        largest = max([largest, *differences])
        findings += [f"document {document.number}: {text}" for text in findings_of(document, line, wanted)]
    print(f"{'FAIL' if findings else 'ok  '} {task}: {requests:,} requests, log-probabilities differ by at most "
          f"{largest:.1e} nats", flush=True)
    for text in findings[:SHOWN]:
        print(f"     {text}")
    if len(findings) > SHOWN:
        print(f"     and {len(findings) - SHOWN} more")
    return not findings


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="HF_FOLDER")
    parser.add_argument("predictions", metavar="PREDICTIONS.jsonl")
    parser.add_argument("--tasks", help="comma-separated; default: all tasks of the file that this script knows")
    parser.add_argument("--documents", type=int, default=50, help="number of documents of each task; 0: all (default 50)")
    parser.add_argument("--data", type=Path, default=peer_scoring.DATA, help="the folder that scripts/fetch_eval_data.sh fills")
    return parser.parse_args()


def chosen_tasks(arguments, tasks):
    known = set(peer_scoring.TABLES) | set(peer_scoring.request_files(arguments.data))
    names = arguments.tasks.split(",") if arguments.tasks else [name for name in tasks if name in known]
    for name in names:
        if name not in tasks or name not in known:
            where = "in the predictions" if name not in tasks else f"to this script, which knows {sorted(peer_scoring.TABLES)} "\
                "and tasks of request files"
            raise ValueError(f"task {name} is unknown {where}")
    if not names:
        raise ValueError("the predictions hold no task that this script knows")
    return names


def main():
    arguments = parse_arguments()
    try:
        header, tasks = read_predictions(arguments.predictions)
        names = chosen_tasks(arguments, tasks)
    except (OSError, ValueError, KeyError) as error:
        print(f"check_scores.py: {error}", file=sys.stderr)
        return 2
    peer = peer_scoring.load_transformers(arguments.folder)
    with peer[0].inference_mode():
        results = [check_task(name, tasks[name], header, peer, arguments) for name in names]
    print(f"{len(results)} tasks, {results.count(False)} differ")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

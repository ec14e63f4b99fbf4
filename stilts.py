"""English intermediate-task training for zero-shot cross-lingual transfer (Phang et al. 2020).

    python stilts.py --inter squad --target tydiqa                          the toy world
    python stilts.py --inter squad --target tydiqa --model DIR --data DIR   XLM-R, real data
    python stilts.py --inter none --target xnli --seed 1,2,3                baseline, three seeds
    python stilts.py --inter mnli+squad+mlm --target panx,tatoeba           several tasks at once
    python stilts.py --inter mnli@de --target tydiqa@sw,te                  other training languages
    python stilts.py --inter none --target panx~panx@sw:examples=100        then a few of Swahili
    python stilts.py --predict RUN FILE                                     answers for a file

A run is a chain of stages: intermediate task(s), then the target task's training, each from the
encoder before it; then evaluation in every language found. The same command again resumes, or
prints what is done. Results go to stdout, logs to stderr.
"""

import argparse
import difflib
import itertools
import os
import re
import signal
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import torch

import data
import eval as evaluation
import listing
import plan
import predict
import ranks
import robust
import runs
import splits
import submission
import tasks
import weights
from checkpoints import log
from files import UserError, read_json
from model import Model, make_encoder, make_head
from train import NotFinite, Stopped, stage_steps

HERE = Path(__file__).resolve().parent
FILL_MASK = ("The capital of France is <mask>.", "La capitale de la France est <mask>.",
             "Die Hauptstadt von Frankreich ist <mask>.", "Столица Франции — <mask>.",
             "法国的首都是<mask>。")
EXPECTED = (UserError, NotFinite, OSError, torch.OutOfMemoryError)      # told in one line
PREDICTION = ("max_length", "stride", "max_question", "max_answer")     # fields it needs, too
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Parser(argparse.ArgumentParser):
    """argparse with one error line, as for every other mistake, and the nearest flag."""

    def error(self, message):
        wrong = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        near = difflib.get_close_matches(wrong[1], self._option_string_actions, 1) if wrong else ()
        raise UserError(message + (f" (did you mean {near[0]}?)" if near else ""))


def parse(arguments):
    """The flags. Facts of a task are not flags: they are fields of its row, changed by --set."""
    parser = Parser(description=__doc__, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument_group("what to run").add_argument
    add("--inter", default="none", metavar="TASKS",
        help="intermediate task, several joined by + for multi-task training, all for the paper's "
        "nine, or none (default); TASK@LANG,LANG or TASK@all: trained in these languages")
    add("--target", metavar="TASKS",
        help="target task(s), comma-separated, also as TASK@LANGS; xtreme or xtreme-r: all rows of "
        "a benchmark; none: stop after the intermediate stage")
    add("--seed", default="1", help="comma-separated whole numbers; several give mean and SD (1)")
    add("--restarts", type=int, default=0, metavar="N",
        help="run a degenerate run again, at most N times, with unused seeds (0 = off)")
    add("--split", help="split to evaluate (default: the row's eval_split)")
    add("--controls", action="store_true", help="toy: run the controls (off: print recorded ones)")
    add("--limit", type=int, default=0, metavar="N",
        help="first N examples of every file; marks all results LIMITED (0 = off)")
    add("--predict", nargs=2, metavar=("RUN", "FILE"),
        help="print a finished run's answers for a file in its task's format")
    add("--list", action="store_true", help="print the datasheet and what is found on disk")
    add("--missing", action="store_true", help="with --list: how to fetch what is not there")
    add("--check", action="store_true", help="verify data, weights and vocabulary; fill masks")
    add("--dry-run", action="store_true", help="print the plan and every value; touch nothing")
    add_technical(parser)
    return parser, parser.parse_args(arguments)


def add_technical(parser) -> None:
    """Flags about places, training and the machine."""
    add = parser.add_argument_group("where things are").add_argument
    add("--model", type=Path, metavar="DIR", help="HF or fairseq folder (default: toy/encoder)")
    add("--data", type=Path, metavar="DIR", help="data folder (default: toy/data)")
    add("--out", type=Path, default=Path("runs"), metavar="DIR", help="results (runs)")
    add("--keep", action="store_true", help="keep the encoder of target stages (off: heads only, "
        "but encoders below 64 MB always stay)")
    add = parser.add_argument_group("training").add_argument
    add("--recipe", choices=plan.RECIPES, default="paper", help="learning rates (paper)")
    add("--set", action="append", default=[], metavar="[TASK.]FIELD=VALUE",
        help="override a value that --dry-run prints; may be repeated")
    add("--layer", default="0", metavar="N",
        help="block that retrieval compares, or all, one after the other (0 = 14/24 of depth); "
        "Nc: with the mean of each side's vectors taken off")
    add = parser.add_argument_group("running").add_argument
    add("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    add("--precision", choices=("auto", *PRECISIONS), default="auto",
        help="auto: bf16 on a GPU that has it, else fp16 with loss scaling; fp32 on a CPU")
    add("--micro-tokens", type=int, default=0, metavar="N",
        help="most tokens in one forward pass; the same result up to rounding and the draws of "
        "dropout (0 = 2048 on a CPU, 16384 on a GPU)")
    add("--checkpoint-activations", action="store_true", help="less memory, a third more time")
    add("--deterministic", action="store_true", help="bit-identical repeats on CUDA too (slower)")
    add("--debug", action="store_true", help="show a traceback with an error")


def check_given(given) -> None:
    """All contradictions in one message, before any file is read; then split the lists."""
    pairs = [text.partition("=") for text in given.set]
    problems = {
        "--model and --data belong together (worlds are never mixed)":
            not given.list and (given.model is None) != (given.data is None),
        "give one of --target, --list, --check and --predict":
            bool(given.target) + given.list + given.check + bool(given.predict) != 1,
        "--limit, --restarts and --micro-tokens cannot be negative":
            min(given.limit, given.restarts, given.micro_tokens) < 0,
        "several ranks work on --target, without --controls and --device cuda:N":
            ranks.size() > 1
            and (not given.target or given.controls or ":" in (given.device or "")),
        "--layer wants a number from 0 or `all`, or a number with c":
            not re.fullmatch(r"\d{1,3}c?|all", given.layer),
        "--missing belongs to --list": given.missing and not given.list,
        "--seed wants different whole numbers, as in 1,2,3":
            not re.fullmatch(r"\d{1,9}(,\d{1,9})*", given.seed)
            or len({int(s) for s in given.seed.split(",")}) <= given.seed.count(","),
        "--set wants FIELD=VALUE or TASK.FIELD=VALUE":
            not all(name and value for name, _, value in pairs),
        "--inter none --target none leaves nothing to train":
            given.inter == given.target == "none",
    }
    if any(problems.values()):
        raise UserError("; ".join(what for what, is_wrong in problems.items() if is_wrong))
    given.seed = [int(seed) for seed in given.seed.split(",")]
    number, centred = re.fullmatch(r"(\d*)(.*)", given.layer).groups()
    given.layer = f"{int(number)}{centred}" if number and centred else int(number or 0) or centred
    given.layer = given.layer or 0
    given.set = [(*name.rpartition(".")[::2], value) for name, _, value in pairs]
    for owner in {owner for owner, _, _ in given.set if owner}:
        tasks.get(owner)


def chosen_tasks(given) -> tuple[str, list[str]]:
    """Names checked: the intermediate arm, and the targets with benchmarks spelled out."""
    check_intermediate(given.inter)
    if given.target in ("xtreme", "xtreme-r"):
        rows = [task for task in tasks.TASKS.values() if given.target in task.benchmarks]
        for row in [row for row in rows if row.scored_only]:
            log(f"{row.name} is left out: {row.recipe}")
        return given.inter, [row.name for row in rows if not row.scored_only]
    targets = plan.split_list(given.target)
    for target in [target for target in targets if target != "none"]:
        row = tasks.get(plan.parse_target(target)[0].name)
        if row.kind == "mlm" or row.scored_only:
            why = "masked LM is an intermediate task" if row.kind == "mlm" else row.recipe
            raise UserError(f"--target {row.name}: {why}")
    return given.inter, targets


def check_intermediate(inter: str) -> None:
    names = [one.name for one in plan.parse_arm(inter)]
    if len(set(names)) < len(names):
        raise UserError(f"--inter {inter}: a task stands twice (several languages: TASK@LANG,LANG)")
    for row in map(tasks.get, names):
        if "train" not in row.files and not row.members:
            source = f"; use {', '.join(row.train_on)}" if row.train_on else ""
            raise UserError(f"--inter {row.name}: it has no training data of its own{source}")


def make_hardware(given, is_toy: bool) -> predict.Hardware:
    """Device, precision and memory budget; sets PyTorch's global switches.

    The toy encoder runs on one thread: its matrices are too small to share. Else PyTorch decides,
    or the variable OMP_NUM_THREADS.
    """
    if is_toy:
        torch.set_num_threads(1)
    name = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "cuda" and ranks.size() > 1:
            device = torch.device("cuda", ranks.local_rank())
            torch.cuda.set_device(device)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as problem:
        raise UserError(f"--device {name}: {str(problem).splitlines()[0]}") from None
    if given.deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.use_deterministic_algorithms(True)
    precision = given.precision
    if precision == "auto":
        has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "fp32" if device.type == "cpu" else "bf16" if has_bf16 else "fp16"
    tokens = given.micro_tokens or (2048 if device.type == "cpu" else 16384)
    return predict.Hardware(device, PRECISIONS[precision], tokens)


def make_context(given) -> plan.Context:
    """Paths, world and hardware; refuses folders that are not ours to write in."""
    folder, model = given.data or HERE / "toy/data", given.model or HERE / "toy/encoder"
    for path, what in ((folder, "data folder"), (model, "model folder")):
        if not path.is_dir():
            raise UserError(f"no such {what}", path)
    world = splits.world(folder)
    is_toy = world["world"] != "real"
    if not given.list and splits.world(model)["world"] != world["world"]:
        raise UserError("an encoder and data of different worlds are never mixed", model)
    if given.controls and (not is_toy or given.limit or given.split or given.layer):
        raise UserError("--controls is for the toy world, without --limit, --split and --layer")
    recipe = folder.parent / "recipe.json"
    recipe = read_json(recipe) if is_toy and recipe.exists() else {}
    hardware = make_hardware(given, is_toy)
    stop = catch_signals() if given.target and not given.dry_run else lambda: 0
    return plan.Context(given, model, folder, given.out, world, recipe, hardware, stop)


def catch_signals():
    """SIGINT and SIGTERM set a flag that loops poll; a second one ends the program at once.

    The flag of one rank stops all at the same step. There a second signal is not counted: torchrun
    sends its own after that of a terminal or of Slurm, which reached the ranks too.
    """
    caught = []

    def handle(number, frame):
        caught.append(128 + number)
        if ranks.size() == 1:
            signal.signal(number, signal.SIG_DFL)
            log("stopping after saving (again: stop at once)")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return lambda: ranks.highest(caught[0] if caught else 0)


# ------------------------------------------------------------------------- what is printed


def run_all(given, context: plan.Context) -> None:
    """Every run of the command, then one table per target."""
    inter, targets = chosen_tasks(given)
    arms = list(dict.fromkeys(("none", inter)))
    check_runs(given, [(inter, target) for target in targets], context)
    ranks.on_first(lambda: own_folder(context.out))
    for target in targets:
        results = [result for arm in (arms if target != "none" else [inter])
                   for seed in given.seed for result in run_layers(arm, target, seed, context)]
        if target != "none":
            task = tasks.get(results[0]["task"])
            print(evaluation.markdown_table(task, results[0]["split"], results) + "\n")
            if context.world["world"] != "real":
                from toy import controls
                print(controls.show(inter, target, given, context), end="")


def run_layers(arm: str, target: str, seed: int, context: plan.Context) -> list[dict]:
    """The results of one run and its restarts; with --layer all, of one run for each block, its
    number in the name."""
    if context.given.layer != "all":
        return runs.run_until_sound(arm, target, seed, context)
    results = []
    for layer in range(1, weights.load_encoder(context.model)[0].num_layers + 1):
        given = argparse.Namespace(**vars(context.given) | {"layer": layer})
        results += [result | {"inter": f"{arm}, block {layer}"} for result in
                    runs.run_until_sound(arm, target, seed, replace(context, given=given))]
    return results


def check_runs(given, pairs, context: plan.Context) -> None:
    """Plan every run, a pair (arm, target), before the first begins, so that a mistake in the last
    costs nothing."""
    used, predicted = {}, set()
    for inter, target in pairs:
        stages = plan.plan_run(inter, target, given.seed[0], context)
        for stage in stages:
            used |= stage.values
            runs.stage_settings(stage)
        task = runs.target_task(target, context) if target != "none" else None
        if given.layer and (task is None or not task.search or task.train_on):
            raise UserError(f"--layer is for retrieval that is not trained, not for {target}")
        if task:
            predicted.add(task.name)
            runs.describe_run(inter, target, given.seed[0], stages, context)
    check_settings(given, used, predicted)


def check_settings(given, used: dict, predicted: set[str]) -> None:
    """Raises UserError for a --set that changes nothing. used: row -> values, of all stages;
    predicted: rows of the targets."""
    fields = set(itertools.chain.from_iterable(used.values()))
    for owner, name, _ in given.set:
        is_used = owner in used or owner in predicted and name in PREDICTION
        if owner and not is_used:
            raise UserError(f"--set {owner}.{name}: no stage here has the values of {owner}")
        if name in robust.LIMITS and name not in fields:
            raise UserError(f"--set {name}: no stage here is trained by a method that has it "
                            "(--set robust=METHOD)")


def own_folder(out: Path) -> None:
    """Results go to a new folder or to one we made before, never through a link."""
    marker = out / ".stilts"
    if out.is_symlink() or out.exists() and not marker.exists() and any(out.iterdir()):
        raise UserError("not a results folder of this program (no .stilts in it); use --out", out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not marker.exists():
            marker.touch()
    except OSError as problem:
        raise UserError(f"cannot write ({problem.strerror})", out) from None


def print_plan(given, context: plan.Context) -> None:
    """Stages, files, values with their origin, steps, memory and disk; reads, writes nothing."""
    inter, targets = chosen_tasks(given)
    check_runs(given, [(inter, target) for target in targets], context)
    _, state, vocabulary, _ = weights.load_encoder(context.model)
    tokenizer = data.Tokenizer(vocabulary)
    size = 4 * sum(t.numel() for t in state.values())
    print(f"model {context.model}: {size / 4e6:.2f} M parameters; {context.hardware}")
    seen = set()
    for target in targets:
        for arm in dict.fromkeys(("none", inter)):
            for seed in given.seed:
                if arm == target == "none":
                    continue
                print(f"\nrun {runs.run_folder(arm, target, seed, context)}")
                for stage in plan.plan_run(arm, target, seed, context):
                    print_stage(stage, seen, context, tokenizer)
        print_files(target, given, context)
    print(f"\npeak disk about {3 * 3 * size * len(seen) / 1e9:.2f} GB while training, memory about "
          f"{4 * size / 1e9:.2f} GB for weights, gradients and moments plus activations")


def print_stage(stage: plan.Stage, seen: set, context, tokenizer) -> None:
    is_done = (context.out / "stages" / stage.key / "DONE").exists()
    print(f"  stage {stage.names} {stage.key}: {'done' if is_done else 'to train'}")
    if stage.key in seen:
        return
    seen.add(stage.key)
    parts = {member.name: runs.load_part(member, stage, context, tokenizer)
             for member in stage.members}
    print(f"    {stage_steps(parts, runs.stage_settings(stage))} steps")
    for path, sha in stage.files.items():
        print(f"    {path} sha256 {sha[:16]}")
    for member in stage.members:
        print(f"    {member.name} in {' '.join(member.languages)}")
    for row, values in stage.values.items():
        for name, (value, origin) in values.items():
            print(f"    {row}.{name} = {value}  ({origin})")


def print_files(target: str, given, context) -> None:
    """Languages found for a target, and what would have to be fetched for the others."""
    if target == "none":
        return
    task = tasks.get(plan.parse_target(target)[0].name)
    split = given.split or task.eval_split
    found = splits.languages(task, context.data, split)
    print(f"  {target} {split}: found {' '.join(found) or 'no language'}")
    missing = [lang for lang in task.languages + task.xtreme_r if lang not in found]
    if missing and context.world["world"] == "real":
        print(f"  missing {' '.join(missing)}; expected {', '.join(task.files.get(split, ()))}")
        for url in listing.downloads(task, {split: missing}):
            size, sha = listing.published().get(url, ("size unknown", "unknown"))
            print(f"    {url}  {size}  sha256 {sha}")


def check_all(context: plan.Context) -> None:
    """Read every file found, load the weights, test the vocabulary, fill masks."""
    for task in tasks.TASKS.values():
        for split in task.files:
            for lang in splits.languages(task, context.data, split):
                loaded = splits.load(task, context.data, split, lang)
                note = "" if loaded.labelled else ", no labels"
                print(f"{task.name} {split} {lang}: {len(loaded.examples):,} examples{note}")
    config, state, vocabulary, mlm_head = weights.load_encoder(context.model)
    tokenizer = data.Tokenizer(vocabulary)
    predict.check_fit(tokenizer, config, context.model)
    print(f"weights: {config}, {len(state)} tensors; vocabulary: {tokenizer.vocab_size:,} ids")
    if not mlm_head:
        print("no masked-LM head in the weights: no mask filled")
        return
    head = make_head("mlm", config, 0, seed=0)
    head.load_state_dict(mlm_head)
    model = Model(make_encoder(config, state), {"mlm": head}).to(context.hardware.device)
    texts = context.world.get("fill_mask", FILL_MASK)
    print("\n".join(predict.fill_masks(model, tokenizer, texts, context.hardware)))


def predict_file(given, context: plan.Context) -> None:
    """Answers of a finished run for one file in its task's format, in the submission format."""
    folder, path = Path(given.predict[0]), Path(given.predict[1])
    _, config = evaluation.read_run(folder)
    task, head, labels, stage = predict.trained_task(folder, config)
    if task.search:
        raise UserError("--predict is not for retrieval, whose answers need all files", path)
    if not (stage / "config.json").exists():
        raise UserError("this run kept no encoder; run it again with --keep", stage)
    examples = [e for e in task.reader([path], None, labels) if e is not None]
    model, tokenizer = predict.load_model(stage, head, task, len(labels))
    model.to(context.hardware.device)
    depth = predict.depth_of(config["key"]["layer"], model.encoder)
    answers = predict.predict(model, head, task, examples, tokenizer, labels, context.hardware,
                                 depth)
    print(submission.format_answers(task.form, examples, answers, labels), end="")


def dispatch(given) -> None:
    check_given(given)
    context = make_context(given)
    notice = context.world.get("notice", "")
    if notice and not given.predict:
        print(notice)
    if given.list:
        lines = listing.fetching_lines if given.missing else listing.datasheet
        print("\n".join(lines(context.data)))
    elif given.check:
        check_all(context)
    elif given.predict:
        predict_file(given, context)
    elif given.dry_run:
        print_plan(given, context)
    else:
        run_all(given, context)
    if notice and not given.predict:
        print(notice)


def main(arguments=None) -> int:
    """Exit codes: 0 done, 1 a bug here, 2 a problem the user can mend, 3 numbers not finite,
    130 and 143 stopped by a signal after saving."""
    given = None
    try:
        with ranks.together():
            _, given = parse(arguments)
            dispatch(given)
        return 0
    except KeyboardInterrupt:
        return 130
    except Stopped as stopped:
        log("saved; the same command goes on from here")
        return stopped.args[0]
    except BrokenPipeError:                     # `| head` closed the output: results are on disk
        sys.stderr.close()
        return 0
    except EXPECTED as problem:
        if given and given.debug:
            traceback.print_exc()
        print(f"error: {one_line(problem)}", file=sys.stderr)
        return 3 if isinstance(problem, NotFinite) else 2


def one_line(problem: Exception) -> str:
    """What went wrong, where, and what helps."""
    if isinstance(problem, OSError):
        return f"{problem.filename or 'output'}: {problem.strerror}"
    if isinstance(problem, torch.OutOfMemoryError):
        return (f"{str(problem).splitlines()[0]} A smaller --micro-tokens or "
                "--checkpoint-activations need less memory")
    return str(problem)


if __name__ == "__main__":
    ranks.run(main)

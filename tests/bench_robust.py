"""What robust training costs: a step's gradients by each method against the plain step.

    python tests/bench_robust.py [--target xnli] [--steps 20] [--rounds 5]

The toy encoder with XLM-R's dropout on the toy target's training batches; process CPU time of one
thread, medians of rounds that take all sides in turn. The optimizer, the same for all, is left out.
"""

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import data  # noqa: E402
import plan  # noqa: E402
import robust  # noqa: E402
import runs  # noqa: E402
import stilts  # noqa: E402
import train  # noqa: E402
import weights  # noqa: E402
from model import Dropout, Layer  # noqa: E402

SIDES = {"plain": {"robust": "none"}, "rs-rp": {"robust": "rs-rp"}} | {
    f"{method}, K = {count}": {"robust": method, "ascents": count}
    for method in ("adv", "freelb") for count in (1, 2, 3)}


def make_setup(target: str) -> train.Setup:
    """Model and data of the target's only stage, as runs.run_stage has them."""
    _, given = stilts.parse(["--target", target, "--dry-run"])
    stilts.check_given(given)
    context = stilts.make_context(given)
    stage, = plan.plan_run("none", target, 1, context)
    tokenizer = data.Tokenizer(weights.load_encoder(context.model)[2])
    part = runs.load_part(stage.members[0], stage, context, tokenizer)
    model = runs.build_model(stage, {stage.head: part}, context.model, context)
    for module in model.modules():
        if isinstance(module, Dropout):
            module.rate = 0.1
        if isinstance(module, Layer):
            module.attention_dropout = 0.1
    return train.make_setup(model, {stage.head: part}, runs.stage_settings(stage), 1, tokenizer,
                            context.hardware)


def with_method(setup: train.Setup, chosen: dict) -> train.Setup:
    (name, part), = setup.parts.items()
    values = part.values | robust.METHODS[chosen["robust"]] | chosen
    return replace(setup, parts={name: replace(part, values=values)})


def seconds(setup: train.Setup, steps: int) -> float:
    (name, part), = setup.parts.items()
    began = time.process_time()
    for step in range(steps):
        train.accumulate(setup, name, part.order(step), step)
        setup.optimizer.zero_grad(set_to_none=True)
    return time.process_time() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="xnli")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    setup = make_setup(given.target)
    sides = {name: with_method(setup, chosen) for name, chosen in SIDES.items()}
    times = {name: [] for name in sides}
    for turn in range(given.rounds + 1):                     # the first warms up
        for name, side in sides.items():
            spent = seconds(side, given.steps)
            times[name] += [spent] if turn else []
    plain = statistics.median(times["plain"])
    print(f"{given.target}: {1e3 * plain / given.steps:.1f} ms a plain step")
    for name, found in times.items():
        print(f"{name:14} {statistics.median(found) / plain:5.2f}")


if __name__ == "__main__":
    main()

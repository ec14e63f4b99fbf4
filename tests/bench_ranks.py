"""Two gloo ranks against one: optimizer steps a second, toy encoder, the same batch of 64 questions.

    python tests/bench_ranks.py [--batch 64] [--steps 20] [--rounds 5]

Each rank is a process with one thread. A round is: one rank; two ranks as train.py has them; two
ranks with DistributedDataParallel, as one task needs it and with find_unused_parameters, as a stage
of several tasks would. A step is everything from the drawn items to the new weights. Printed: each
side's median time and its ratios to one rank; the sum over steps of the busier rank's CPU time,
which others who use the cores hardly change, and its ratio: what a step would take if nobody did and
collective operations took no time; and how long these took, waiting included.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

import data  # noqa: E402
import forks  # noqa: E402
import plan  # noqa: E402
import ranks  # noqa: E402
import runs  # noqa: E402
import stilts  # noqa: E402
import train  # noqa: E402
from model import LOSSES, clip_gradients  # noqa: E402

TASK = "squad"


def make_setup(batch: int) -> train.Setup:
    """The toy world's squad stage, as stilts.py makes it."""
    _, given = stilts.parse(["--inter", TASK, "--target", "none", "--dry-run", "--set",
                             f"batch_size={batch}"])
    stilts.check_given(given)
    context = stilts.make_context(given)
    (stage,) = plan.plan_run(TASK, "none", 1, context)
    tokenizer = data.Tokenizer(context.model / "sentencepiece.bpe.model")
    parts = {TASK: runs.load_part(stage.members[0], stage, context, tokenizer)}
    model = runs.build_model(stage, parts, context.model, context)
    return train.make_setup(model, parts, runs.stage_settings(stage), 1, tokenizer,
                            context.hardware)


def our_gradients(setup, wrapped, items, step: int) -> None:
    train.accumulate(setup, TASK, items, step)


def ddp_gradients(setup, wrapped, items, step: int) -> None:
    """train.accumulate with DistributedDataParallel, which averages: hence times the ranks."""
    part = setup.parts[TASK]
    items = items[part.order.lengths[items].argsort(kind="stable")][ranks.rank()::ranks.size()]
    batches = [data.make_batch(part.features, items[run]) for run in
               data.cut_by_tokens(part.order.lengths[items], setup.hardware.micro_tokens)]
    count = ranks.total(sum(b.count for b in batches))
    wrapped.train()
    for i, batch in enumerate(batches):
        batch.input_ids = setup.vocabulary.lookup[batch.input_ids]
        batch = batch.to(setup.hardware.device)
        wrapped.require_backward_grad_sync = i == len(batches) - 1             # no_sync()
        loss = LOSSES[part.task.kind](wrapped(TASK, batch), batch) * ranks.size() / count
        loss.backward()
    clip_gradients(setup.model.parameters(), setup.settings["clip"])


KEPT = []           # what DistributedDataParallel's end would wait for, see ranks.run
SIDES = {"one rank": (1, our_gradients, None), "two ranks": (2, our_gradients, None),
         "two ranks, DDP": (2, ddp_gradients, False),
         "two ranks, DDP, unused": (2, ddp_gradients, True)}


def measure(setup, steps: int, gradients, has_unused, result: Path) -> int:
    """Seconds a step after three to warm up: wall, CPU of the busier rank, in collectives."""
    waited, clock = [0.0], []

    def timed(collective, *arguments):
        began = time.perf_counter()
        collective(*arguments)
        waited[0] += time.perf_counter() - began

    with ranks.together():
        ranks.call = timed
        wrapped = has_unused is not None and DistributedDataParallel(
            setup.model, find_unused_parameters=has_unused)
        KEPT.append(wrapped)
        for step in range(steps + 3):
            if step == 3:
                ranks.highest(0)
                began, waited[0] = time.perf_counter(), 0.0
            clock.append(time.process_time())
            gradients(setup, wrapped, setup.parts[TASK].order(step), step)
            setup.optimizer.step()
            setup.optimizer.zero_grad(set_to_none=True)
        wall, in_collectives = time.perf_counter() - began, waited[0]
        used = [b - a for a, b in zip(clock[3:], [*clock[4:], time.process_time()])]
        used = sum(map(max, zip(*ranks.gather(used))))
        if ranks.rank() == 0:
            result.write_text(json.dumps([x / steps for x in (wall, used, in_collectives)]))
    return 0


def report(found: dict[str, list]) -> None:
    """Medians over rounds; ratios are taken within a round."""
    alone = found["one rank"]
    print(f"\n{'ms a step':23}  wall  times one rank (lowest, highest)   CPU  times  collectives")
    for side, rounds in found.items():
        wall, used, waited = (1000 * median(column) for column in zip(*rounds))
        rates = [one[0] / this[0] for one, this in zip(alone, rounds)]
        spread = f"{median(rates):.2f} ({min(rates):.2f}, {max(rates):.2f})"
        cpu = median(one[1] / this[1] for one, this in zip(alone, rounds))
        print(f"{side:23} {wall:5.1f}  {spread:33} {used:5.1f}  {cpu:5.2f}  {waited:11.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    setup, found = make_setup(given.batch), {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result"
        for _ in range(given.rounds):
            for side, (count, gradients, has_unused) in SIDES.items():
                group = forks.Ranks(count, lambda rank: measure(setup, given.steps, gradients,
                                                                has_unused, result), Path(folder))
                assert group.wait(600) == [0] * count, group.said()
                found[side].append(json.loads(result.read_text()))
    report(found)


if __name__ == "__main__":
    main()

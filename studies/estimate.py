"""How long a design takes, roughly, before any of it is run: tokens, and how fast they go.

    stages, samples --> tokens --forward_rate--> hours of training and of measuring

A token that is trained on counts three times a token that is read (forward, and backward twice as
much). The rate is that of one batch of the first target on this device with these weights. It
leaves out dev scores, the run's own evaluation, noising and files; where stages have been trained
before, the grid's table is closer.
"""

import time
from statistics import fmean

import data
import plan
import predict
import runs
import splits
import tasks
import weights
from files import UserError
from model import Model, make_encoder
from studies import grid, measure
from train import stage_steps

PASSES = 3                      # of a trained token, in forward passes


def lines(setup, jobs: list[grid.Job], conditions: int) -> list[str]:
    """What is told before the work. conditions: that each run is asked under."""
    config, state, vocabulary, _ = weights.load_encoder(setup.context.model)
    tokenizer = data.Tokenizer(vocabulary)
    model = Model(make_encoder(config, state), {}).to(setup.context.hardware.device)
    targets = [job.target for job in jobs if job.target]
    rate = forward_rate(model, targets[0], setup, tokenizer)
    trained = training_tokens(jobs, setup.context, tokenizer)
    read = conditions * sum(asked_tokens(target, setup, tokenizer) * targets.count(target)
                            for target in dict.fromkeys(targets))
    return [f"rough estimate at {rate:,.0f} tokens a second, read forward:",
            f"training {trained:,.0f} tokens, about {grid.duration(PASSES * trained / rate)}",
            f"measuring {read:,.0f} tokens, about {grid.duration(read / rate)}",
            "in one process; --shard divides it"]


def samples(target: str, setup) -> tuple[tasks.Task, list[list]]:
    """(row, examples of each language) that a study asks of a run of a target."""
    context, task = setup.context, runs.target_task(target, setup.context)
    split = context.given.split or task.eval_split
    found = [measure.sample(task.name, context.data, split, lang, context.given.limit,
                            setup.own.items).examples
             for lang in splits.languages(task, context.data, split)]
    return task, found


def asked_tokens(target: str, setup, tokenizer) -> int:
    """Tokens of one pass over all languages; their labels play no part in that."""
    task, found = samples(target, setup)
    labels = splits.labels(task, setup.context.data)
    return sum(int(data.featurize(task, examples, tokenizer, labels).lengths.sum())
               for examples in found)


def forward_rate(model: Model, target: str, setup, tokenizer) -> float:
    """Tokens a second of one batch, after another one that warms up where there are two."""
    task, found = samples(target, setup)
    examples = sum(found, [])
    features = data.featurize(task, examples, tokenizer, splits.labels(task, setup.context.data))
    batches = predict.run_model(model, "", features, setup.context.hardware,
                                model.encoder.config.num_layers)
    rate = 0.0
    for _ in range(2):
        start = time.perf_counter()
        found = next(batches, None)
        if found is not None:
            rate = len(found[0].input_ids) / (time.perf_counter() - start)
    return rate


def training_tokens(jobs: list[grid.Job], context: plan.Context, tokenizer) -> float:
    """Of all stages that are still to be trained, each once."""
    stages = {stage.key: stage for job in jobs for stage in job.stages
              if not grid.stage_done(stage, context)}
    sizes = {}
    total = 0.0
    for stage in stages.values():
        alike = plan.digest(stage.members, stage.values, stage.files)
        if alike not in sizes:
            sizes[alike] = stage_tokens(stage, context, tokenizer)
        total += sizes[alike]
    return total


def stage_tokens(stage: plan.Stage, context: plan.Context, tokenizer) -> float:
    """Steps times batch size times the mean length of an item; 0 where its files are broken, which
    training will tell."""
    try:
        parts = {member.name: runs.load_part(member, stage, context, tokenizer)
                 for member in stage.members}
    except UserError:
        return 0.0
    steps = stage_steps(parts, runs.stage_settings(stage))
    each = [part.values["batch_size"] * float(part.order.lengths.mean())
            for part in parts.values()]
    return steps * fmean(each)

"""Several processes that train one model: who they are, and what they tell each other.

    torchrun --nproc_per_node 8 stilts.py ...

or any starter that sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. Rank 0 writes,
prints and logs; all ranks read the same files. Every function is called by all ranks in the same
order, and in a single process gives back what it was given. Numbers and texts travel by gloo from
the CPU, so that no GPU has to be waited for; gradients by nccl where they lie on a GPU.
"""

import json
import os
import sys
import traceback
from contextlib import contextmanager
from datetime import timedelta
from itertools import groupby

import numpy as np
import torch
import torch.distributed as dist

from files import UserError

TIMEOUT = timedelta(minutes=30)     # longer than rank 0 ever works alone: saving, scoring, export
BUCKET = 2 ** 25                    # gradients summed in one call: 128 MB in float32


def size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def local_rank() -> int:
    """Number of this process on its machine, and of its GPU. RuntimeError if it is not set."""
    return dist.get_node_local_rank()


# ------------------------------------------------------------------------- begin and end


@contextmanager
def together():
    """Join the other ranks, and wait for them when the work is done.

    Ranks above 0 are silent. Of ranks that fail, the first alone keeps its stderr, so that there
    is one message. The others notice at once that its connections are closed (`call`); one that
    waits for a GPU does not, and is ended by torchrun. UserError when they cannot be joined.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    store = join()
    silence = open(os.devnull, "w", encoding="utf-8")
    if rank() > 0:
        sys.stdout = sys.stderr = silence
    try:
        yield
        highest(0)                              # nobody leaves while another is still at work
    except BaseException:
        sys.stderr = sys.__stderr__ if fails_first(store) else silence
        raise


def run(main) -> None:
    """Call main() and end the process with the exit code that it returns, 1 after a bug.

    Of several ranks without taking PyTorch's process group down: there a thread of gloo may wait
    for the interpreter, which waits for the thread (seen in tests/bench_ranks.py, after
    DistributedDataParallel), and nccl for a rank that has failed.
    """
    try:
        code = main()
    except Exception:
        traceback.print_exc()
        code = 1
    if size() == 1:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def join():
    """Connect all ranks; returns the store that they share beside their connections."""
    has_nccl = torch.cuda.is_available() and dist.is_nccl_available()
    if os.environ.get("RANK") == "0":
        print(f"waiting for {os.environ['WORLD_SIZE']} ranks", file=sys.stderr)
    try:
        store, number, count = next(dist.rendezvous("env://", timeout=TIMEOUT))
        dist.init_process_group("cpu:gloo,cuda:nccl" if has_nccl else "gloo", timeout=TIMEOUT,
                                store=dist.PrefixStore("group", store), rank=number,
                                world_size=count)
    except (ValueError, RuntimeError) as problem:
        raise UserError(f"cannot join the other ranks: {problem}") from problem
    return store


def fails_first(store) -> bool:
    """Whether no rank has failed before this one."""
    try:
        return store.add("failed", 1) == 1
    except RuntimeError:                        # the store has ended with rank 0, which has spoken
        return False


# ------------------------------------------------------------------ numbers, values, answers


def call(collective, *arguments) -> None:
    """A collective operation. UserError where another rank has ended: it closed its connections."""
    try:
        collective(*arguments)
    except RuntimeError as problem:
        raise UserError("another rank has ended or does not answer; the same command goes on from "
                        "the last checkpoint") from problem


def total(number: int) -> int:
    """Sum over ranks."""
    return reduce(number, dist.ReduceOp.SUM)


def highest(number: int) -> int:
    """Largest over ranks."""
    return reduce(number, dist.ReduceOp.MAX)


def reduce(number: int, how) -> int:
    if size() == 1:
        return number
    value = torch.tensor([number])
    call(dist.all_reduce, value, how)
    return int(value)


def gather(value) -> list:
    """The value of every rank, in their order: what JSON can hold, so that nothing is unpickled."""
    if size() == 1:
        return [value]
    text = json.dumps(value).encode()
    mine = torch.frombuffer(bytearray(text.ljust(highest(len(text)))), dtype=torch.uint8)
    found = [torch.empty_like(mine) for _ in range(size())]
    call(dist.all_gather, found, mine)
    return [json.loads(bytes(text.numpy())) for text in found]


def on_first(work):
    """What work() gives on rank 0, for all; the others wait for it. It must be fit for JSON."""
    return gather(work() if rank() == 0 else None)[0]


def in_step(items):
    """The items, then None for as long as another rank has some: all ranks make as many rounds."""
    for item in items:
        highest(1)
        yield item
    while highest(0):
        yield None


def merge(answers, count: int):
    """Answers to `count` examples; each rank gives those to its own, which are rank::size.

    A list (texts, numbers, tuples of texts), or float32 rows [count, H], None without an own one.
    """
    if size() == 1:
        return answers
    if isinstance(answers, list):
        merged = [None] * count
        for number, share in enumerate(gather(answers[rank()::size()])):
            merged[number::size()] = [tuple(a) if isinstance(a, list) else a for a in share]
        return merged
    width = highest(0 if answers is None else answers.shape[1])
    rows = torch.zeros(count, width)
    if answers is not None:
        rows[rank()::size()] = torch.from_numpy(answers[rank()::size()])
    call(dist.all_reduce, rows)
    return rows.numpy()


def sum_gradients(parameters, loss: torch.Tensor) -> None:
    """Replace the loss and the gradients of the parameters by their sums over ranks.

    A rank without an example in this step has no gradients and counts as zero. Why not
    DistributedDataParallel: it averages where a sum is wanted, waits for a backward pass on every
    rank, of the last micro-batch only, and has to search the graph for the heads that a step of
    several tasks leaves out. What it has is sums during the backward pass; on two CPU ranks its
    steps need the same CPU time within 5 % (tests/bench_ranks.py). On GPUs neither was measured.
    """
    if size() == 1:
        return
    parameters = list(parameters)
    for p in parameters:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    add_up([loss, *(p.grad for p in parameters)])


def add_up(tensors: list[torch.Tensor]) -> None:
    """Sums over ranks in place, of one kind of numbers, laid end to end in buckets."""
    places = np.cumsum([t.numel() for t in tensors]) // BUCKET
    for _, pairs in groupby(zip(places, tensors), key=lambda pair: pair[0]):
        bucket = [t for _, t in pairs]
        flat = torch.cat([t.flatten() for t in bucket])
        call(dist.all_reduce, flat)
        for t, sums in zip(bucket, flat.split([t.numel() for t in bucket])):
            t.copy_(sums.view_as(t))

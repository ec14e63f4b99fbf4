"""Evaluation on real SQuAD windows: our run_model against transformers, same precision.

    python tests/bench_eval.py [DATA] [--layers 12] [--precision fp32|bf16] [--blocks 8]
                               [--rounds 5]

Windows: blocks of 8 neighbours, evenly spaced over the file. Peer (sdpa, inference mode, batches
of 8): shuffled windows padded to 384 or to their longest; the file's own order, where questions of
one context stand together, padded to the longest; sorted by length. Ours: eval.run_model, batch
assembly included, 2,048 tokens a batch. Same windows, same weights. Decoding is timed apart.
"""

from dataclasses import replace

import numpy as np
import torch

import benchlib
import draws
import predict


@torch.inference_mode()
def run_peer(model, batches, hardware) -> None:
    model.eval()
    for rows in batches:
        with hardware.autocast():
            model(rows["input_ids"], rows["attention_mask"])


def take_blocks(f, examples: list, blocks: int):
    """Features and examples of `blocks` runs of 8 neighbouring windows."""
    starts = np.linspace(0, len(f.lengths) - 8, blocks).astype(int)
    windows = (starts[:, None] + np.arange(8)).ravel()
    kept, example = np.unique(f.example[windows], return_inverse=True)
    parts = {name: getattr(f, name)[windows] for name in ("a", "b", "target", "own")}
    return replace(f, example=example, **parts), [examples[i] for i in kept]


def main():
    given = benchlib.start(__doc__, layers=12, precision="fp32", blocks=8, rounds=5)
    task, examples, _, f = benchlib.squad_features(given.DATA)
    f, examples = take_blocks(f, examples, given.blocks)
    peer, ours = benchlib.peer_and_ours(given.DATA, "base", given.layers)
    file = np.arange(len(f.lengths)).reshape(-1, 8)
    shuffled = draws.stream("bench_eval").permutation(file.size).reshape(-1, 8)
    by_length = np.argsort(-f.lengths, kind="stable").reshape(-1, 8)
    sides, shares = {}, {}
    for name, order, longest in (("padded to 384", shuffled, 384), ("dynamic padding", shuffled, 0),
                                 ("file order", file, 0), ("sorted by length", by_length, 0)):
        rows = [benchlib.padded(f, items, longest) for items in order]
        places = sum(batch["input_ids"].numel() for batch in rows)
        shares[f"transformers, {name}"] = f.lengths.sum() / places
        sides[f"transformers, {name}"] = lambda rows=rows: run_peer(peer, rows, given.hardware)
    sides["ours"] = lambda: list(predict.run_model(ours, "squad", f, given.hardware))
    runs = sides["ours"]()
    sides["ours, decoding"] = lambda: predict.decode_spans(task, runs, f, examples, ())
    config = ours.encoder.config
    products = benchlib.gemms(config, given.hardware.dtype)
    times = benchlib.interleave(sides | {n: run for n, (run, _) in products.items()}, given.rounds)
    peak = max(flops / times[name] for name, (_, flops) in products.items())
    flops = benchlib.useful_flops(config, f.lengths, 1)
    print(f"{len(f.lengths)} windows, {f.lengths.sum()} tokens; GEMM peak {peak / 1e9:.0f} GFLOP/s")
    print(f"\n{'':31}  seconds  useful tok/s  of peak  useful share")
    for name in (*shares, "ours"):
        print(f"{name:31} {times[name]:8.3f} {f.lengths.sum() / times[name]:13.0f} "
              f"{flops / times[name] / peak:8.1%} {shares.get(name, 1):13.1%}")
    print(f"decoding: {times['ours, decoding'] / len(f.lengths) * 1e6:.0f} ms per 1,000 windows\n")
    for name, bar in (("dynamic padding", 1.8), ("sorted by length", 1.05)):
        benchlib.check(f"of {name}", times[f"transformers, {name}"] / times["ours"], bar)


if __name__ == "__main__":
    main()

"""Evaluation on real SQuAD windows: our run_model against transformers, same precision.

    python tests/bench_eval.py [DATA] [--layers 12] [--precision fp32] [--windows 64] [--rounds 5]

Peer (sdpa, inference mode, batches of 8): windows in file order padded to 384, in file order padded
to the longest of the batch, or sorted by length. Ours: eval.run_model, batch assembly included,
4,096 tokens a batch. Same windows, same weights. Decoding is timed apart.
"""

import numpy as np
import torch

import benchlib
import data
import eval as evaluation


@torch.inference_mode()
def run_peer(model, batches, dtype):
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        for rows in batches:
            model(rows["input_ids"], rows["attention_mask"])


def take(f, windows: np.ndarray):
    """The features of some windows."""
    parts = {name: getattr(f, name)[windows] for name in ("a", "b", "example", "target", "own")}
    return data.replace(f, **parts)


def main():
    given = benchlib.start(__doc__, layers=12, precision="fp32", windows=64, rounds=5)
    dtype = benchlib.PRECISIONS[given.precision]
    task, examples, _, f = benchlib.squad_features(given.DATA)
    mixed, _ = benchlib.draw(f, given.windows // 8)
    f = take(f, np.sort(mixed.ravel()))
    peer, ours = benchlib.peer_and_ours(given.DATA, "base", given.layers)
    peer.eval()
    in_order = np.arange(len(f.lengths)).reshape(-1, 8)
    by_length = np.argsort(-f.lengths, kind="stable").reshape(-1, 8)
    hardware = evaluation.Hardware(torch.device("cpu"), dtype, 4096)

    def run_ours():
        return list(evaluation.run_model(ours, "squad", f, hardware))

    runs = run_ours()
    sides = {name: lambda rows=[benchlib.padded(f, items, longest) for items in order]:
             run_peer(peer, rows, dtype)
             for name, order, longest in (("transformers, padded to 384", in_order, 384),
                                          ("transformers, dynamic padding", in_order, 0),
                                          ("transformers, sorted by length", by_length, 0))}
    sides |= {"ours": run_ours,
              "ours, decoding": lambda: evaluation.decode_spans(task, runs, f, examples, ())}
    products = benchlib.gemms(ours.encoder.config, dtype or torch.float32)
    times = benchlib.interleave(sides | {name: run for name, (run, _) in products.items()}, given.rounds)
    peak = max(flops / times[name] for name, (_, flops) in products.items())
    flops = benchlib.useful_flops(ours.encoder.config, f.lengths, 1)
    print(f"GEMM peak {peak / 1e9:.0f} GFLOP/s\n\n{'':31}  seconds  useful tok/s  of peak")
    for name in sides:
        share = "" if name.endswith("decoding") else f"{flops / times[name] / peak:8.0%}"
        print(f"{name:31} {times[name]:8.3f} {f.lengths.sum() / times[name]:13.0f} {share}")
    print()
    benchlib.check("of dynamic padding", times["transformers, dynamic padding"] / times["ours"], 1.8)
    benchlib.check("of sorted by length", times["transformers, sorted by length"] / times["ours"], 1.05)


if __name__ == "__main__":
    main()

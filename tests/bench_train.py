"""Forward + backward on real SQuAD windows: ours against transformers, and against the machine.

    python tests/bench_train.py [DATA] [--layers 12] [--precision fp32|bf16] [--shape base|large]
                                [--batches 3] [--rounds 5]

Batches of 8 windows, dropout 0.1, no gradient for the token table, the same weights.
Peer (sdpa): random batches padded to 384; random batches padded to their longest; length-grouped
batches padded to their longest. Ours, padding-free: the same random and length-grouped batches.
Before that, logits must agree within 1e-4 on a batch of mixed lengths.
"""

import torch

import benchlib
import data


def assert_same_logits(peer, ours, f, items, device=benchlib.CPU) -> None:
    """Max abs difference of start and end logits on real tokens."""
    batch = data.make_batch(f, items).to(device)
    rows = {name: x.to(device) for name, x in benchlib.padded(f, items).items()}
    with torch.inference_mode():
        out = peer.eval()(rows["input_ids"], rows["attention_mask"])
        theirs = torch.stack([out.start_logits, out.end_logits], -1)[rows["attention_mask"] == 1]
        difference = (theirs - ours.eval()("squad", batch)).abs().max().item()
    print(f"largest difference of logits {difference:.1e} on lengths {batch.lengths}")
    assert difference <= 1e-4, difference


def train(model, backward, batches, hardware) -> None:
    for batch in batches:
        backward(model, batch, hardware)
        model.zero_grad(set_to_none=True)


def main():
    given = benchlib.start(__doc__, layers=12, precision="fp32", shape="base", batches=3, rounds=5)
    f = benchlib.squad_features(given.DATA)[3]
    mixed, grouped = benchlib.draw(f, given.batches)
    peer, ours = benchlib.peer_and_ours(given.DATA, given.shape, given.layers)
    assert_same_logits(peer, ours, f, mixed[0])
    for table in (peer.roberta.embeddings.word_embeddings, ours.encoder.tokens):
        table.requires_grad_(False)
    peer.train()
    ours.train()
    sides, lengths = {}, {}
    for name, order, longest in (("padded to 384", mixed, 384), ("dynamic padding", mixed, 0),
                                 ("length-grouped", grouped, 0)):
        rows = [benchlib.padded(f, items, longest) for items in order]
        lengths[f"transformers, {name}"] = f.lengths[order].ravel()
        sides[f"transformers, {name}"] = lambda rows=rows: train(
            peer, benchlib.peer_backward, rows, given.hardware)
    for name, order in (("random batches", mixed), ("length-grouped", grouped)):
        batches = [data.make_batch(f, items).to(benchlib.CPU) for items in order]
        lengths[f"ours, {name}"] = f.lengths[order].ravel()
        sides[f"ours, {name}"] = lambda batches=batches: train(
            ours, benchlib.our_backward, batches, given.hardware)
    config = ours.encoder.config
    products = benchlib.gemms(config, given.hardware.dtype)
    times = benchlib.interleave(sides | {n: run for n, (run, _) in products.items()}, given.rounds)
    peak = max(flops / times[name] for name, (_, flops) in products.items())
    report(lengths, times, config, peak, given.precision)


def report(lengths, times, config, peak, precision) -> None:
    print(f"GEMM peak {peak / 1e9:.0f} GFLOP/s\n\n{'':31}  seconds  useful tok/s  GFLOP/s  of peak")
    speed, share = {}, {}
    for name, tokens in lengths.items():
        speed[name] = tokens.sum() / times[name]
        share[name] = benchlib.useful_flops(config, tokens, 3) / times[name] / peak
        print(f"{name:31} {times[name]:8.2f} {speed[name]:13.0f} {share[name] * peak / 1e9:8.0f} "
              f"{share[name]:8.1%}")
    print()
    mixed, grouped, peer = "ours, random batches", "ours, length-grouped", "transformers, "
    benchlib.check("of dynamic padding", speed[mixed] / speed[peer + "dynamic padding"], 1.9)
    benchlib.check("of padded to 384", speed[mixed] / speed[peer + "padded to 384"], 2.4)
    benchlib.check("of length-grouped", speed[grouped] / speed[peer + "length-grouped"], 1.3)
    benchlib.check("share of the GEMM peak", share[mixed], {"fp32": 0.85, "bf16": 0.5}[precision])


if __name__ == "__main__":
    main()

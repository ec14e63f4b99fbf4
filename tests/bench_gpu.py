"""XLM-R Large with random weights on real SQuAD windows, on one CUDA device, beside transformers.

    python tests/bench_gpu.py [DATA] [--size 32] [--steps 20] [--layers 24] [--peak 989]

bf16 autocast over fp32 weights, dropout 0.1, whole steps (clipping, fused AdamW) of `size`
windows, then evaluation. Sides, one after the other, each alone on the device: ours (active
vocabulary filled up to 40,000 rows; length-grouped batches, as in training) with attention dropout
0.1 (padded attention) and 0 (packed flash attention); transformers with sdpa on random batches
padded to their longest and on length-grouped ones, and its padding-free path (flash_attention_2
with cu_seq_lens) where installed. Before that, fp32 logits must agree within 1e-4.

Printed: useful tokens/s of wall time, model FLOPs utilisation = FLOPs of the encoder's layers on
real tokens (benchlib.useful_flops: 2 per weight and token, 4 T H for attention, times 3 with the
backward pass) / seconds / `peak` TFLOP/s (H100, H200: 989 dense bf16), and peak device memory.
"""

import copy
import gc
import time

import numpy as np
import torch

import benchlib
import data
import eval as evaluation
import predict
from bench_step import DECAY, RATE, active_ids, our_step, peer_step
from bench_train import assert_same_logits
from model import LOSSES, ActiveVocabulary, make_optimizer

CUDA = torch.device("cuda")
HARDWARE = benchlib.Hardware(CUDA, torch.bfloat16, 16384)


def on_device(rows: dict) -> dict:
    return {name: x.to(CUDA) for name, x in rows.items()}


def packed_step(model, optimizer, batch) -> None:
    """transformers without padding: one row, its borders given to flash_attention_2; our loss."""
    batch = batch.to(CUDA)
    longest = max(batch.lengths)
    position = torch.cat([torch.arange(n, device=CUDA) for n in batch.lengths]) + data.PAD + 1
    with HARDWARE.autocast():
        out = model(batch.input_ids[None].long(), position_ids=position[None],
                    cu_seq_lens_q=batch.cu_seqlens, cu_seq_lens_k=batch.cu_seqlens,
                    max_length_q=longest, max_length_k=longest)
        logits = torch.stack([out.start_logits[0], out.end_logits[0]], -1)
        loss = LOSSES["span"](logits, batch) / batch.count
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def our_steps(model, f, order, attention_dropout: float) -> list:
    model = copy.deepcopy(model).train()
    for layer in model.encoder.layers:
        layer.attention_dropout = attention_dropout
    vocabulary = ActiveVocabulary(model.encoder, active_ids(f, 40_000))
    optimizer = make_optimizer(model.to(CUDA), DECAY)
    return [lambda batch=data.make_batch(f, items): our_step(
        model, optimizer, batch, HARDWARE, RATE, vocabulary.lookup) for items in order]


def peer_steps(model, f, order, attention: str) -> list:
    model = copy.deepcopy(model).train()
    model.set_attn_implementation(attention)
    optimizer = torch.optim.AdamW(model.to(CUDA).parameters(), RATE, weight_decay=DECAY, fused=True)
    if attention != "sdpa":
        return [lambda batch=data.make_batch(f, items): packed_step(model, optimizer, batch)
                for items in order]
    return [lambda rows=benchlib.padded(f, items): peer_step(
        model, optimizer, on_device(rows), HARDWARE) for items in order]


@torch.inference_mode()
def evaluate_peer(model, f, order) -> None:
    model.eval()
    for items in order:
        rows = on_device(benchlib.padded(f, items))
        with HARDWARE.autocast():
            out = model(rows["input_ids"], rows["attention_mask"])
        torch.stack([out.start_logits, out.end_logits]).float().cpu()


def measure(name, make, lengths, passes, config, peak) -> None:
    """Build a side, warm it up, run all its steps, print speed, utilisation and peak memory."""
    torch.cuda.reset_peak_memory_stats()
    try:
        steps = make()
    except (ImportError, OSError, ValueError) as problem:
        print(f"{name:44} not available: {str(problem)[:100]!r}")
        return
    for run in steps[:5]:
        run()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for run in steps:
        run()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    share = benchlib.useful_flops(config, lengths, passes) / seconds / peak / 1e12
    print(f"{name:44} {lengths.sum() / seconds:12.0f} {share:8.1%} "
          f"{torch.cuda.max_memory_allocated() / 1e9:8.1f} GB", flush=True)
    del steps, run
    gc.collect()
    torch.cuda.empty_cache()


def main():
    given = benchlib.start(__doc__, on_gpu=True, size=32, steps=20, layers=24, peak=989.0)
    f = benchlib.squad_features(given.DATA)[3]
    mixed, grouped = benchlib.draw(f, given.steps, given.size)
    peer, ours = benchlib.peer_and_ours(given.DATA, "large", given.layers)
    config = ours.encoder.config
    assert_same_logits(peer.to(CUDA), ours.to(CUDA), f, mixed[0][:8], CUDA)
    peer.cpu(), ours.cpu()
    print(f"\n{'training':44} useful tok/s      MFU  peak memory")
    for name, make, order in (
            ("ours", lambda o: our_steps(ours, f, o, 0.1), grouped),
            ("ours, attention dropout 0", lambda o: our_steps(ours, f, o, 0.0), grouped),
            ("transformers, dynamic padding", lambda o: peer_steps(peer, f, o, "sdpa"), mixed),
            ("transformers, length-grouped", lambda o: peer_steps(peer, f, o, "sdpa"), grouped),
            ("transformers, padding-free",
             lambda o: peer_steps(peer, f, o, "flash_attention_2"), mixed)):
        measure(name, lambda: make(order), f.lengths[order].ravel(), 3, config, given.peak)
    print(f"\n{'evaluation of all windows':44} useful tok/s      MFU  peak memory")
    by_length = np.argsort(-f.lengths, kind="stable")
    starts = range(0, len(f.lengths), given.size)
    file = [np.arange(i, min(i + given.size, len(f.lengths))) for i in starts]
    for name, model, run in (
            ("ours", ours, lambda m: list(predict.run_model(m, "squad", f, HARDWARE))),
            ("transformers, file order", peer, lambda m: evaluate_peer(m, f, file)),
            ("transformers, sorted by length", peer, lambda m: evaluate_peer(
                m, f, [by_length[i:i + given.size] for i in starts]))):
        measure(name, lambda: [lambda: run(model.to(CUDA))], f.lengths, 1, config, given.peak)
        model.cpu()


if __name__ == "__main__":
    main()

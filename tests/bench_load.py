"""What it costs to load XLM-R Large: CPU time and peak memory, beside the safetensors library.

    python tests/bench_load.py [--layers 24] [--rounds 5] [--cold 1]

Writes random weights of XLM-R Large's shapes (2.2 GB) to a temporary folder with export_hf, then
runs every side in a process of its own, in turns, with one thread:

    library         safetensors.torch.load_file, then one value of every page is touched
    library + sum   the same, then the sum of every tensor: the least that a check of values costs
    ours, raw       weights.read_safetensors, then one value of every page
    ours            weights.load_encoder, which refuses NaN and infinity, so it reads every value

The page cache is warm, or with --cold emptied of the file before every run. Times are medians: CPU
seconds of the process, which other users of the machine disturb least, and wall seconds. Memory is
the peak resident size of the whole process, interpreter and torch included.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import weights
from model import Config, Encoder

TOKENIZER = ROOT.parent / "shared/data/xlmr/sentencepiece.bpe.model"
PAGE = 1024                                                  # float32 values
SIDES = ("library", "library + sum", "ours, raw", "ours")


def peak() -> int:
    """Peak resident memory of this process in bytes (Linux counts kB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make(folder: Path, layers: int) -> None:
    """Random weights; prints the peak memory before and after export_hf as JSON."""
    config = Config(250_002, 1024, layers, 16, 4096)
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = Encoder(config).state_dict()
    encoder = {name: torch.empty(like.shape).normal_(std=0.02, generator=generator)
               for name, like in shapes.items()}
    before = peak()
    weights.export_hf(folder, config, encoder)
    (folder / weights.TOKENIZER).write_bytes(TOKENIZER.read_bytes() if TOKENIZER.exists() else b"x")
    print(json.dumps({"before": before, "after": peak()}))


def load(folder: Path, side: str) -> None:
    """Load, touch every page, print seconds and peak memory as JSON."""
    path = folder / "model.safetensors"
    if side.startswith("library"):
        from safetensors.torch import load_file
    start, cpu = time.perf_counter(), time.process_time()
    if side == "ours":
        tensors = weights.load_encoder(folder)[1]
    elif side == "ours, raw":
        tensors = weights.read_safetensors(path)
    else:
        tensors = load_file(path)
    for tensor in tensors.values():
        tensor.view(-1)[::PAGE].sum()
        if side == "library + sum":
            tensor.sum()
    print(json.dumps({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - start,
                      "peak": peak()}))


def child(folder: Path, *more) -> dict:
    """This script in a process of its own; the JSON that it prints."""
    command = [sys.executable, __file__, "--child", str(folder), *map(str, more)]
    out = subprocess.run(command, check=True, capture_output=True, text=True,
                         env={"OMP_NUM_THREADS": "1", "PATH": ""}).stdout
    return json.loads(out)


def forget(path: Path) -> None:
    """Drop the file from the page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def compare(folder: Path, layers: int, rounds: int, cold: bool) -> None:
    made = child(folder, "make", layers)
    path = folder / "model.safetensors"
    size = path.stat().st_size
    runs = {side: [] for side in SIDES if not side.startswith("library") or has_library()}
    for turn in range(rounds + 1):
        for side, found in runs.items():
            if cold:
                forget(path)
            found.append(child(folder, "load", side))
    print(f"torch {torch.__version__}, one thread, {rounds} rounds, {'cold' if cold else 'warm'} "
          f"page cache, file {size / 1e9:.3f} GB\n")
    print(f"{'side':14} {'CPU s':>8} {'wall s':>8} {'peak GB':>8} {'peak / file':>12}")
    middle = {}
    for side, found in runs.items():    # the first turn is a warm-up
        one = middle[side] = {key: statistics.median(run[key] for run in found[1:])
                              for key in found[0]}
        print(f"{side:14} {one['cpu']:8.3f} {one['wall']:8.3f} {one['peak'] / 1e9:8.3f} "
              f"{one['peak'] / size:12.3f}")
    grown = (made["after"] - made["before"]) / size
    print(f"\nexport_hf: peak memory grew by {grown:.3f} of the file")
    for ours, other in (("ours, raw", "library"), ("ours", "library"), ("ours", "library + sum")):
        if other in middle:
            ratios = {key: middle[ours][key] / middle[other][key] for key in ("cpu", "wall")}
            print(f"{ours} / {other}: CPU {ratios['cpu']:.2f}, wall {ratios['wall']:.2f}")


def has_library() -> bool:
    try:
        import safetensors.torch    # noqa: F401
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, default=24, help="of the model (Large has 24)")
    parser.add_argument("--rounds", type=int, default=5, help="measured turns of every side")
    parser.add_argument("--cold", type=int, default=0, help="1: empty the page cache every time")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        where, action, what = given.child
        make(Path(where), int(what)) if action == "make" else load(Path(where), what)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            compare(Path(temporary), given.layers, given.rounds, given.cold == 1)

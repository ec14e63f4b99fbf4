"""What the benchmarks share: settings, interleaved medians, GEMM peak, the peer and its batches.

A benchmark compares two sides in one process: rounds that alternate between the sides, the median
of each. On the CPU the measure is process CPU time of one thread on one core, which other users of
the machine disturb least. The peer, transformers, belongs in a scratch environment:

    pip install -r requirements.txt transformers==5.23.0 protobuf
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1",
                  TRANSFORMERS_VERBOSITY="error", HF_HUB_OFFLINE="1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch.nn.utils.rnn import pad_sequence

import data
import draws
import splits
import tasks
import weights
from predict import Hardware
from model import LOSSES, Config, Model, make_encoder, make_head

SHAPES = {"base": (768, 12), "large": (1024, 16)}          # hidden size, heads
CPU = torch.device("cpu")
transformers.utils.logging.disable_progress_bar()


def start(description: str, on_gpu: bool = False, **options) -> argparse.Namespace:
    """Parse `DATA --name value ...` (options: name -> default), print settings, pin to one core.

    An option `precision` (fp32 | bf16) also gives .hardware: the CPU, autocast to bf16 or not.
    """
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("DATA", nargs="?", type=Path, default=ROOT.parent / "shared" / "data",
                        help="folder with squad/ and xlmr/ (default: ../shared/data)")
    for name, default in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    given = parser.parse_args()
    print(f"{Path(sys.argv[0]).name}:", *(f"{name} {getattr(given, name)}" for name in options))
    if on_gpu:
        print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, wall time", end=", ")
    else:
        torch.set_num_threads(1)
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        print(f"1 thread on 1 core of {cpu_name()}, process CPU time", end=", ")
    print(f"fp32 matmul precision {torch.get_float32_matmul_precision()}\n"
          f"Python {platform.python_version()}, torch {torch.__version__}, transformers "
          f"{transformers.__version__}, numpy {np.__version__}\n")
    if "precision" in options:
        dtype = {"fp32": None, "bf16": torch.bfloat16}[given.precision]
        given.hardware = Hardware(CPU, dtype, 2048)
    return given


def cpu_name() -> str:
    """Model and the units that decide how fast bf16 can be."""
    lines = Path("/proc/cpuinfo").read_text().split("\n")
    facts = {line.split(":")[0].strip(): line.split(":")[1] for line in lines if ":" in line}
    units = [u for u in ("avx512f", "avx512_bf16", "amx_bf16") if u in facts["flags"].split()]
    return f"{facts['model name'].strip()} ({' '.join(units)})"


def interleave(sides: dict, rounds: int) -> dict[str, float]:
    """Median CPU seconds of each side (name -> function), after one warm-up of each."""
    times = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, run in sides.items():
            began = time.process_time()
            run()
            if turn:
                times[name].append(time.process_time() - began)
    return {name: statistics.median(t) for name, t in times.items()}


def check(what: str, value: float, bar: float, at_most: bool = False, form: str = ".2f") -> None:
    """Print a measured value beside its bar."""
    holds = value <= bar if at_most else value >= bar
    print(f"{'holds ' if holds else 'MISSED'}  {what}: {value:{form}} "
          f"(bar {'<=' if at_most else '>='} {bar})")


def gemms(config: Config, dtype: torch.dtype | None) -> dict:
    """name -> (five products of 2,048 tokens by an encoder's weight, their FLOPs).

    The fastest is the machine's peak; timed among the rounds, so that both see the same machine.
    """
    hidden, inner, sides = config.hidden_size, config.intermediate_size, {}
    for name, m, n in (("out", hidden, hidden), ("up", hidden, inner), ("down", inner, hidden)):
        x, w = torch.randn(2048, m, dtype=dtype), torch.randn(n, m, dtype=dtype)
        sides[f"GEMM {name}"] = (lambda x=x, w=w: [F.linear(x, w) for _ in range(5)],
                                 5 * 2 * 2048 * m * n)
    return sides


def useful_flops(config: Config, lengths, passes: int) -> float:
    """FLOPs of the encoder's layers on real tokens: 2 per weight, 4 T H for attention.

    passes: 1 forward, 3 forward + backward. Embeddings, norms and heads are not counted.
    """
    hidden, lengths = config.hidden_size, np.asarray(lengths, float)
    linear = 2 * (4 * hidden ** 2 + 2 * hidden * config.intermediate_size) * lengths.sum()
    return passes * config.num_layers * (linear + 4 * hidden * (lengths ** 2).sum())


def squad_features(folder: Path):
    """(task, examples, tokenizer, features) of the real SQuAD training file."""
    task = tasks.get("squad")
    examples = splits.load(task, folder, "train", "en").examples
    tokenizer = data.Tokenizer(folder / "xlmr" / "sentencepiece.bpe.model")
    return task, examples, tokenizer, data.featurize(task, examples, tokenizer, train=True)


def peer_and_ours(folder: Path, shape: str, layers: int, attention: str = "sdpa"):
    """transformers' XLM-R for questions (random weights, 250,002 rows) and ours with the same
    weights, which go through save_pretrained and weights.load_encoder."""
    hidden, heads = SHAPES[shape]
    torch.manual_seed(0)
    peer = transformers.XLMRobertaForQuestionAnswering(transformers.XLMRobertaConfig(
        vocab_size=250_002, hidden_size=hidden, num_hidden_layers=layers, type_vocab_size=1,
        num_attention_heads=heads, intermediate_size=4 * hidden, max_position_embeddings=514,
        layer_norm_eps=1e-5, attn_implementation=attention))
    with tempfile.TemporaryDirectory() as saved:
        peer.save_pretrained(saved)
        vocabulary = folder / "xlmr" / "sentencepiece.bpe.model"
        (Path(saved) / vocabulary.name).symlink_to(vocabulary.resolve())
        config, state, _, _ = weights.load_encoder(saved)
        head = make_head("span", config, 2, seed=0)
        head.load_state_dict(weights.load_head(saved, "span"))
    return peer, Model(make_encoder(config, state), {"squad": head})


def draw(f: data.Features, batches: int, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """(random, length-grouped) batches of windows [batches, size], as training would draw them.

    The random ones are the draw, of 500, most like the whole data in mean length and in the useful
    share of padded batches. The grouped ones are evenly spaced among the 50 batches that 50 * size
    windows give when sorted by length, which is what the Trainer's group_by_length does.
    """
    rng = draws.stream("benchmark", batches)
    lengths, count = f.lengths, len(f.lengths)

    def facts(items):
        return lengths[items].mean(), lengths[items].mean() / lengths[items].max(1).mean()

    typical = facts(rng.permutation(count)[:count // size * size].reshape(-1, size))
    tries = [rng.permutation(count)[:batches * size].reshape(batches, size) for _ in range(500)]
    mixed = min(tries, key=lambda items: np.abs(np.divide(facts(items), typical) - 1).sum())
    pool = rng.permutation(count)[:50 * size]
    pool = pool[np.argsort(lengths[pool], kind="stable")].reshape(50, size)
    grouped = pool[((np.arange(batches) + 0.5) * 50 / batches).astype(int)]
    for name, (mean, share) in (("all windows", typical), ("random batches drawn", facts(mixed)),
                                ("length-grouped batches drawn", facts(grouped))):
        print(f"{name}: {mean:.0f} tokens a window, {share:.1%} useful where padded")
    return mixed, grouped


def padded(f: data.Features, items: np.ndarray, longest: int = 0) -> dict[str, torch.Tensor]:
    """The same sequences as transformers' collator gives them, padded to the longest or further."""
    batch = data.make_batch(f, items)
    rows = torch.from_numpy(batch.input_ids).long().split(batch.lengths)
    ids = pad_sequence(rows, batch_first=True, padding_value=data.PAD)
    ids = F.pad(ids, (0, max(0, longest - ids.shape[1])), value=data.PAD)
    begin, end = torch.from_numpy(batch.target).T
    return {"input_ids": ids, "attention_mask": (ids != data.PAD).long(),
            "start_positions": begin, "end_positions": end}


def our_backward(model: Model, batch: data.Batch, hardware: Hardware) -> None:
    with hardware.autocast():
        loss = LOSSES["span"](model("squad", batch), batch) / batch.count
    loss.backward()


def peer_backward(model, rows: dict, hardware: Hardware) -> None:
    with hardware.autocast():
        loss = model(**rows).loss
    loss.backward()

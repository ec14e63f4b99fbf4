"""Rebuilds the toy world: data in the official formats, the vocabulary and the encoder.

    python toy/make.py                     data and encoder: twenty minutes
    python toy/make.py --data-only         the data: seconds, bit for bit the same for a seed
    python toy/make.py --seed 1 --out DIR  another world, elsewhere

To be told with every score: the pretraining text holds questions with their answers in all
languages, and in half of its documents a quarter of the words are replaced by those of another
language ("code-switched"), which amounts to a bilingual dictionary.
"""

import argparse
import contextlib
import io
import json
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import sentencepiece
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import stilts  # noqa: E402
import weights  # noqa: E402
from model import Config, make_encoder  # noqa: E402
from toy.files import documents, dump, world_file, write_files  # noqa: E402
from toy.more import build  # noqa: E402
from toy.world import LANGUAGES, Source, World  # noqa: E402

PIECES = 700                                   # about 1.05 pieces a word
SHAPE = {"hidden_size": 64, "num_layers": 6, "num_heads": 2, "intermediate_size": 256,
         "max_positions": 258, "dropout": 0.0, "attention_dropout": 0.0, "initializer_range": 0.06}
DOCUMENTS = 20_000                             # of a language with the full amount of text
SETTINGS = ("batch_size=32", "max_length=256", "beta2=0.98", "alpha=1")
STAGES = (                                     # share of news, settings: first align words, then
    (0.0, "steps=1800 lr=4e-3 mask_rate=0.3"),   # look them up, then doubt what stands there
    (0.85, "steps=8000 lr=4e-3 mask_rate=0.2"),
    (0.85, "steps=1500 lr=3e-3 mask_rate=0.2 random_rate=0.5"),
)


def vocabulary(source: Source) -> bytes:
    """A SentencePiece unigram model with XLM-R's layout, trained on equal text of all languages.

    The trainer takes as candidates what repeats across distinct words. A world of few words has
    little of that, and the vocabulary would collapse to letters: 2.8 pieces a word at 800 pieces.
    So the candidates are handed over: all parts of all words with their counts.
    """
    lines = "".join(documents(source, lang, 1500, 1.0, "vocabulary") for lang in LANGUAGES)
    parts = Counter()
    for word, count in Counter(lines.split()).items():
        word = "\u2581" + word
        for start in range(len(word)):
            for end in range(start + 2, len(word) + 1):
                parts[word[start:end]] += count
    rows = sorted(parts.items(), key=lambda row: (-row[1] * len(row[0]), row[0]))
    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        candidates = Path("parts.tsv")         # relative: the model file records the name
        candidates.write_text("".join(f"{part}\t{count}\n" for part, count in rows), "utf-8")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines.splitlines()), model_writer=model, model_type="unigram",
            vocab_size=PIECES, character_coverage=1.0, normalization_rule_name="identity",
            unk_id=0, bos_id=1, eos_id=2, seed_sentencepieces_file=candidates.name,
            num_threads=1, minloglevel=2)
    return model.getvalue()


def sinusoids(count: int, width: int) -> torch.Tensor:
    """[count, width] first position embeddings (Vaswani et al. 2017, wave lengths up to 200). From
    random ones a layer must learn for each place apart which is the next. One pair of runs, four
    layers, English: loss 1.94 against 2.25 after 500 steps."""
    rates = 200 ** -(torch.arange(width // 2) / (width // 2 - 1))
    angles = torch.arange(count)[:, None] * rates
    return 0.11 * torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def random_encoder(folder: Path, world: str, vocabulary_file: Path, seed: int) -> None:
    """What pretraining begins with, as a folder: the same bytes for the same arguments."""
    config = Config(vocab_size=PIECES + 2, **SHAPE)
    state = make_encoder(config, seed=seed).state_dict()
    state["positions.weight"] = sinusoids(*state["positions.weight"].shape)
    state["types.weight"].zero_()              # as XLM-R's. Random: loss 5.46, not 4.0, at step 300
    weights.export_hf(folder, config, state, tokenizer=vocabulary_file)
    write_files(folder, {"world.json": world})


def pretrain(source: Source, folder: Path, seed: int) -> None:
    """Make an encoder with the project's own command: three stages of masked LM from random
    weights. Twenty minutes of one core; bit for bit the same on the same machine."""
    with tempfile.TemporaryDirectory() as work:
        vocabulary_file = Path(work, "sentencepiece.bpe.model")
        vocabulary_file.write_bytes(vocabulary(source))
        start, world = Path(work, "random"), world_file(source)
        random_encoder(start, world, vocabulary_file, seed)
        for number, (news, settings) in enumerate(STAGES):
            texts = {f"text/mlm/{lang}.txt": documents(source, lang, int(DOCUMENTS * language.text),
                                                       news, f"stage {number}")
                     for lang, language in LANGUAGES.items()}
            write_files(Path(work, f"data{number}"), texts | {"world.json": world})
            printed = command(
                "--inter", "mlm", "--target", "none", "--seed", seed, "--model", start,
                "--data", f"{work}/data{number}", "--out", f"{work}/runs",
                *(f"--set={setting}" for setting in (*SETTINGS, *settings.split())))
            start = Path(printed.splitlines()[-2])         # before the notice: the best encoder
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder)
    halve(folder)


def halve(folder: Path) -> None:
    """Store the weights as float16: half the size; they are computed with in float32."""
    path = folder / "model.safetensors"
    tensors = weights.read_safetensors(path)
    weights.write_safetensors(path, {name: tensor.half() for name, tensor in tensors.items()})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_files(folder, {"config.json": dump(config | {"torch_dtype": "float16"})})


def command(*arguments) -> str:
    """What stilts.py prints; SystemExit with its code where it fails. A command around this one
    gets its signal handlers back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            code = stilts.main([str(argument) for argument in arguments])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if code:
        raise SystemExit(code)
    return output.getvalue()


def make_world(seed: int, folder: Path, is_data_only: bool) -> None:
    """data/ and, unless it is not wanted, encoder/ of a world."""
    source = Source(World(seed))
    write_files(folder / "data", build(source))
    if not is_data_only:
        pretrain(source, folder / "encoder", seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="of the world (0)")
    parser.add_argument("--out", type=Path, default=HERE, help="where to write (toy/)")
    parser.add_argument("--data-only", action="store_true", help="leave the encoder as it is")
    given = parser.parse_args()
    make_world(given.seed, given.out, given.data_only)


if __name__ == "__main__":
    main()

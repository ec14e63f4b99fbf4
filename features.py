"""Features kept between runs: the same examples are turned into pieces once.

    examples --feature_key--> FOLDER/KEY.safetensors --read_features--> Features
                              none there, or not sound: data.featurize, and the result is stored

KEY is a hash of everything that decides the features: the examples with their gold, the vocabulary,
the row's settings, the labels, data.py itself. The folder may be deleted at any time.
"""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
import torch

import data
import ranks
import weights
from checkpoints import file_sha256, log
from files import UserError

FORMAT = 1                      # of the files; part of their key
ROW = ("kind", "max_length", "stride", "max_question")     # what the featurizers ask of a row
ARRAYS = ("pieces", "a", "b", "example", "target", "begin", "end", "own", "words")


def features_of(task, examples: list, tokenizer, labels=(), train=False,
                cache: Path | None = None) -> data.Features:
    """What data.featurize gives, read from the folder `cache` where it is there (None: no cache).

    A file that is damaged or not what its name says is made again, with a warning; that a new one
    cannot be written is a warning, too.
    """
    if cache is None:
        return data.featurize(task, examples, tokenizer, labels, train)
    key = feature_key(task, examples, tokenizer, labels, train)
    path = cache / f"{key}.safetensors"
    try:
        if path.exists():
            return read_features(path, task, examples, tokenizer, labels)
    except (UserError, OSError) as problem:
        log(f"warning: {problem}; made again")
    features = data.featurize(task, examples, tokenizer, labels, train)
    try:
        if ranks.rank() == 0:
            write_features(path, features)
    except OSError as problem:
        log(f"warning: {path}: cannot keep these features ({problem.strerror})")
    return features


def feature_key(task, examples: list, tokenizer, labels, train: bool) -> str:
    """Hash of everything that decides the features, code and its library included.

    Of the examples each field is hashed by its different values and which of them each has: a
    context counts once, not with each of its questions.
    """
    code = FORMAT, file_sha256(Path(data.__file__)), sentencepiece.__version__
    row = [getattr(task, name) for name in ROW]
    whole = hashlib.sha256(repr((code, tokenizer.sha256, row, labels, train)).encode())
    for column in zip(*examples):
        values, index = data.unique_texts(column)
        whole.update(repr(values).encode())
        whole.update(index)
    return whole.hexdigest()[:32]


def write_features(path: Path, features: data.Features) -> None:
    """Store features under a name that holds their key, whole or not at all, however many processes
    do so. Raises OSError."""
    arrays = {name: array for name in ARRAYS if (array := getattr(features, name)) is not None}
    arrays["group"] = np.array([features.group])
    arrays["digest"] = digest(path.stem, arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as aside:
        part = Path(aside) / path.name
        weights.write_safetensors(part, {k: torch.from_numpy(a) for k, a in arrays.items()})
        os.replace(part, path)


def digest(key: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """sha256 over a key and arrays with their names, types and shapes, uint8 [32]."""
    whole = hashlib.sha256(key.encode())
    for name, array in sorted(arrays.items()):
        whole.update(repr((name, str(array.dtype), array.shape)).encode())
        whole.update(np.ascontiguousarray(array))
    return np.frombuffer(bytearray(whole.digest()), np.uint8)


def read_features(path: Path, task, examples: list, tokenizer, labels) -> data.Features:
    """Stored features of these examples. Raises UserError: unreadable, damaged, of another key, or
    with a number that points outside."""
    tensors = weights.read_safetensors(path)
    if {t.dtype for t in tensors.values()} - {torch.int32, torch.int64, torch.uint8}:
        raise UserError("no features: a number that is not whole", path)
    arrays = {name: tensor.numpy().copy() for name, tensor in tensors.items()}   # then checked
    if not np.array_equal(arrays.pop("digest", ()), digest(path.stem, arrays)):
        raise UserError("damaged, or of another name", path)
    expected = layout(arrays, task, examples, tokenizer, labels)
    wrong = sorted(arrays.keys() ^ expected.keys()) or [
        name for name, form in expected.items() if not fits(arrays[name], *form)]
    if wrong:
        raise UserError(f"impossible features: {', '.join(wrong)}", path)
    group = int(arrays.pop("group")[0])
    return data.Features(**{"kind": task.kind, "b": None, **arrays}, group=group)


def layout(arrays: dict, task, examples: list, tokenizer, labels) -> dict[str, tuple]:
    """Array -> (type, shape, lowest value, highest value), as features of these examples have them.

    P pieces of the pool, C of them in contexts, S sequences, E examples, W words.
    """
    P, C, S = (np.size(arrays.get(name, ())) for name in ("pieces", "begin", "example"))
    E, group = len(examples), int(np.max(arrays.get("group", 1), initial=1))
    whole, wide = np.int32, np.int64
    expected = {"pieces": (whole, (P,), 0, tokenizer.vocab_size - 1), "a": (whole, (S, 2), 0, P),
                "example": (whole, (S,), 0, E - 1), "group": (wide, (1,), 1, max(S, 1))}
    if task.kind == "classification":
        expected |= {"b": expected["a"], "target": (wide, (E,), -1, len(labels) - 1)}
    elif task.kind == "multiple_choice":
        expected |= {"b": expected["a"], "target": (wide, (E,), -1, group - 1)}
    elif task.kind == "span":
        window = whole, (S, 2), 0, C
        place = whole, (C,), 0, max(len(e.context) for e in examples)
        expected |= {"b": window, "own": window, "begin": place, "end": place,
                     "target": (whole, (S, 2), 0, task.max_length - 1)}
    elif task.kind == "tagging":
        W = sum(len(e.words) for e in examples)
        expected |= {"words": (whole, (W,), 0, P - 1), "target": (wide, (W,), -1, len(labels) - 1)}
    elif "target" in arrays:                               # retrieval in training
        expected["target"] = wide, (S // 2,), 0, 0
    return expected


def fits(array: np.ndarray, kind, shape: tuple, low: int, high: int) -> bool:
    """Whether an array has this type, shape and range, and no row of two falls (from, to)."""
    return (array.dtype == kind and array.shape == shape
            and (array.size == 0 or low <= array.min() and array.max() <= high)
            and (array.ndim < 2 or bool((array[:, 0] <= array[:, 1]).all())))

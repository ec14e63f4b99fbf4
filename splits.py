"""Finding and loading the files of a row: which languages there are, and one split of one of them.

    row --find--> paths --the row's reader--> Examples --load--> Split
"""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import readers
from files import UserError, read_json
from tasks import Task, get

HELD: dict[tuple, set[str]] = {}   # languages of files of several, which are large: read once
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"  # of a language: it becomes part of paths


class _Any:
    """Labels that hold every label."""

    def __contains__(self, label) -> bool:
        return True


ANY = _Any()


class Split(NamedTuple):
    """What load() found: examples, their files, how many rows the data set itself withholds
    ("-"), whether there is gold to score against, and how many examples each member brings."""

    examples: list
    paths: list[Path]
    dropped: int
    labelled: bool
    groups: tuple[int, ...] = ()


def world(data: Path) -> dict[str, str]:
    """What world.json says of the data folder: {"world": "toy", "english": "toy-en", ...}.

    Without that file the data is real and English is "en".
    """
    path = data / "world.json"
    if not path.exists():
        return {"world": "real", "english": "en"}
    record = read_json(path)
    if not isinstance(record, dict) or not {"world", "english"} <= record.keys():
        raise UserError("expected an object with the keys 'world' and 'english'", path)
    if not re.fullmatch(NAME, str(record["english"])):
        raise UserError(f"bad language name {record['english']!r}", path)
    return record


def find(task: Task, data: Path, split: str, lang: str) -> list[Path]:
    """The files of one split in one language, sorted by name; [] when there are none.

    Raises UserError for a language that is no plain name and for links out of the data folder.
    """
    if not re.fullmatch(NAME, lang):
        raise UserError(f"bad language name {lang!r} (expected letters, digits, '-', '_', '.')")
    if task.members:
        return [path for name in task.members for path in find(get(name), data, split, lang)]
    for pattern in _patterns(task, data, split):
        if "{" not in pattern and _is_english(task, split) and lang != world(data)["english"]:
            continue  # one file, of English: there is nothing else in it
        paths = _matches(data, pattern.format(lang=lang, code=task.codes.get(lang, lang)))
        if paths:
            return paths
    return []


def _patterns(task: Task, data: Path, split: str) -> list[str]:
    english = world(data)["english"]
    return [pattern.replace("{english}", english) for pattern in task.files.get(split, ())]


def _is_english(task: Task, split: str) -> bool:
    return len(task.languages) == 1 or split in task.english_splits


def _matches(data: Path, pattern: str) -> list[Path]:
    paths = sorted(data.glob(pattern), key=lambda path: (path.name, str(path)))
    for path in paths:
        if not path.resolve().is_relative_to(data.resolve()):
            raise UserError("a link out of the data folder. Put the file itself there", path)
    return [path for path in paths if path.is_file()]


def languages(task: Task, data: Path, split: str) -> list[str]:
    """The languages that load() would find: English first, the row's order next, then others."""
    if task.members:
        return _shared([languages(get(name), data, split) for name in task.members])
    english = world(data)["english"]
    found = set()
    for pattern in _patterns(task, data, split):
        if "{" in pattern:
            found |= _names(task, data, pattern)
        elif paths := _matches(data, pattern):
            found |= {english} if _is_english(task, split) else _held(task, data, paths)
            if not _is_english(task, split):
                break  # find() never gets past a file of several languages
    if not found and split == "dev" and task.dev_share:
        return languages(task, data, "train")
    order = [english, *task.languages, *task.xtreme_r, *sorted(found)]
    return [lang for lang in dict.fromkeys(order) if lang in found]


def _shared(members: list[list[str]]) -> list[str]:
    return [lang for lang in members[0] if all(lang in other for other in members)]


def _names(task: Task, data: Path, pattern: str) -> set[str]:
    """The languages in the names of the files that match a pattern with {lang} or {code}."""
    regex = re.escape(pattern).replace(r"\*", "[^/]*")
    for blank in (r"\{lang\}", r"\{code\}"):
        regex = regex.replace(blank, f"(?P<name>{NAME}?)", 1).replace(blank, "(?P=name)")
    names = set()
    for file in _matches(data, re.sub(r"\{lang\}|\{code\}", "*", pattern)):
        match = re.fullmatch(regex, file.relative_to(data).as_posix())
        names |= {match["name"]} if match else set()
    if "{code}" in pattern:  # back from codes to languages
        known = {code: lang for lang, code in task.codes.items()}
        names = {known.get(name, name) for name in names if name in known or name not in task.codes}
    return names


def _held(task: Task, data: Path, paths: list[Path]) -> set[str]:
    """The world's or the row's languages of which a file of several holds at least one example."""
    key = task.name, *((path, path.stat().st_mtime_ns) for path in paths)
    if key not in HELD:
        known, names = labels(task, data), world(data).get("languages", task.languages)
        HELD[key] = {lang for lang in names if any(True for _ in task.reader(paths, lang, known))}
    return HELD[key]


def labels(task: Task, data: Path) -> tuple[str, ...]:
    """The task's labels in the order of their numbers.

    "*" stands for the tags of the row's English files, sorted. Raises UserError where labels are
    in a file that is missing or not {tag: one of 0..n-1}.
    """
    if not isinstance(task.labels, str):
        return task.labels
    if task.labels == "*":
        return _tags_found(task, data)
    paths = _matches(data, task.labels)
    if not paths:
        raise UserError(f"the list of labels is missing (expected {task.labels})", data)
    numbers = read_json(paths[0])
    tags = {str(number): tag for tag, number in numbers.items()} if type(numbers) is dict else {}
    order = [tags.get(str(number)) for number in range(len(numbers) if tags else 0)]
    if not order or None in order:
        raise UserError("expected an object {tag: number} with the numbers 0, 1, 2, ...", paths[0])
    return tuple(order)


def _tags_found(task: Task, data: Path) -> tuple[str, ...]:
    files = (find(task, data, split, world(data)["english"]) for split in task.files)
    rows = (row for paths in files if paths for row in task.reader(paths, "en", ANY))
    return tuple(sorted({tag for row in rows if row for tag in row.tags or ()}))


def load(task: Task, data: Path, split: str, lang: str) -> Split:
    """Reads one split in one language.

    Where the row has a dev_share and the data no dev files, dev is that share of the training
    paragraphs and train is the rest. Raises UserError for missing or empty files, for gold in some
    rows only, and for whatever the reader finds.
    """
    if task.members:
        return _pool([load(get(name), data, split, lang) for name in task.members])
    paths = find(task, data, split, lang)
    shared = task.dev_share and split in ("train", "dev") and not find(task, data, "dev", lang)
    if shared:
        paths = find(task, data, "train", lang)
    if not paths:
        wanted = " or ".join(task.files.get(split, ())) or "none: the data set has no such split"
        raise UserError(f"no {split} file of {task.name} in {lang!r} (expected {wanted})", data)
    rows = list(task.reader(paths, lang, labels(task, data)))
    examples = [row for row in rows if row is not None]
    dropped = len(rows) - len(examples)
    if shared:
        examples = [row for row in examples if _is_dev(row, task.dev_share) == (split == "dev")]
    if not examples:
        raise UserError(f"no {split} example of {task.name} in {lang!r}", paths[0])
    return Split(examples, paths, dropped, _is_labelled(examples, paths[0]))


def _pool(members: list[Split]) -> Split:
    """Several data sets as one, in order."""
    return Split([example for one in members for example in one.examples],
                 [path for one in members for path in one.paths],
                 sum(one.dropped for one in members), all(one.labelled for one in members),
                 tuple(len(one.examples) for one in members))


def _is_dev(example: readers.Span | readers.Tagging, share: float) -> bool:
    """Whether a paragraph (of tagged words, a sentence) is dev: by its text, so that none lies on
    both sides."""
    text = example.context if isinstance(example, readers.Span) else " ".join(example.words)
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _is_labelled(examples: list, path: Path) -> bool:
    golds = [example[-1] for example in examples if example[-1] != ()]  # (): a candidate, say
    missing = golds.count(None)
    if 0 < missing < len(golds):
        row = next(example.row for example in examples if example[-1] is None)
        raise UserError(f"{missing} of {len(golds)} examples have no gold, as this one", path, row)
    return missing == 0

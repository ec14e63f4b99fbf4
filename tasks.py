"""The datasheet: one row per data set, and finding and loading its files.

    TASKS[name] --find--> paths --the row's reader--> Examples --load--> Split

A row says everything the program needs to know about a data set; nothing outside this file is
keyed by a task's name. To add a data set of a known format, add its row.

In a row, `files` lists candidates below the data folder, the first that exists is read: a data
set's own form first, then what XTREME's scripts make of it. {lang} and {code} are filled in, *
matches any name. "Remembered" marks what could not be looked up: check it before relying on it.
"""

import difflib
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, NamedTuple

import readers
from readers import UserError

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"  # of a language: it becomes part of paths


@dataclass(frozen=True, kw_only=True)
class Task:
    """One row. Batch size, epochs and length hold for whatever is trained for this row's sake: xnli
    trains on mnli's data, but with its own numbers. Learning rates belong to a run's recipe."""

    name: str
    kind: str  # classification | multiple_choice | span | tagging | retrieval | mlm
    group: str  # what it asks for: semantic | syntactic | entity | span | retrieval | mlm
    reader: Callable
    files: dict[str, tuple[str, ...]]  # split -> candidates
    languages: tuple[str, ...]  # English first, then as in XTREME's list
    xtreme_r: tuple[str, ...] = ()  # languages that XTREME-R adds
    codes: dict[str, str] = field(default_factory=dict)  # language -> its name in file names
    labels: tuple[str, ...] | str = ()  # a str: pattern of a JSON file {tag: number}
    metric: str  # key of metrics.METRICS; "" for mlm
    train_on: tuple[str, ...] = ()  # rows trained on in order, with one head; (): nothing to train
    eval_split: str = "test"
    dev_share: float = 0.0  # of the training paragraphs that are dev where there are no dev files
    benchmarks: tuple[str, ...] = ()
    batch_size: int  # examples per optimizer step
    epochs: float
    max_length: int  # pieces
    stride: int = 128  # span: pieces between the starts of two windows
    max_question: int = 64  # span: pieces
    max_answer: int = 30  # span: pieces
    unanswerable: bool = False  # span: whether "" may be the right answer
    recipe: str  # where these numbers come from
    sizes: str  # examples per split
    source: str
    licence: str
    urls: tuple[tuple[str, int, str], ...] = ()  # (URL, bytes, sha256); 0 and "" where unknown


class Split(NamedTuple):
    """What load() found: examples, their files, how many rows the data set itself withholds
    ("-"), and whether there is gold to score against."""

    examples: list
    paths: list[Path]
    dropped: int
    labelled: bool


def each(splits: str, *patterns: str) -> dict[str, tuple[str, ...]]:
    """{split: candidates} from patterns that hold {split}."""
    return {
        split: tuple(pattern.replace("{split}", split) for pattern in patterns)
        for split in splits.split()
    }


def at(folder: str, *files: str) -> tuple[tuple[str, int, str], ...]:
    """Downloads below one URL, each given as 'name bytes sha256' or, where unknown, as 'name'."""
    rows = [(line.split() + ["0", ""])[:3] for line in files]
    return tuple((folder + name, int(size), digest) for name, size, digest in rows)


PAPER = "batch, epochs: Phang et al. 2020, appendix (remembered); length: jiant's scripts"
JIANT = "jiant's XTREME scripts; batch, epochs also Phang et al. 2020, appendix (remembered)"
BOTH = ("xtreme", "xtreme-r")
NLI = ("contradiction", "entailment", "neutral")
UPOS = tuple(
    "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split())
IOB2 = ("B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O")
XTREME_40 = tuple(
    "en ar he vi id jv ms tl eu ml ta te af nl de el bn hi mr ur fa fr it pt es bg ru ja ka ko th "
    "sw yo my zh kk tr et fi hu".split())
LASER = dict(pair.split("=") for pair in (
    "af=afr ar=ara az=aze bg=bul bn=ben de=deu el=ell es=spa et=est eu=eus fa=pes fi=fin fr=fra "
    "he=heb hi=hin hu=hun id=ind it=ita ja=jpn jv=jav ka=kat kk=kaz ko=kor lt=lit ml=mal mr=mar "
    "nl=nld pl=pol pt=por ro=ron ru=rus sw=swh ta=tam te=tel th=tha tl=tgl tr=tur uk=ukr ur=urd "
    "vi=vie zh=cmn").split())

ROWS = (
    # ------------------------------------------------------------ intermediate tasks, in English
    Task(
        name="squad", kind="span", group="span", languages=("en",), metric="squad_v1",
        reader=readers.read_squad, files=each("train dev", "squad/{split}-v1.1.json"),
        train_on=("squad",), eval_split="dev",
        batch_size=8, epochs=3, max_length=384, recipe=PAPER, sizes="train 87,599, dev 10,570",
        source="Rajpurkar et al. 2016", licence="CC BY-SA 4.0 (remembered)",
        urls=at("https://rajpurkar.github.io/SQuAD-explorer/dataset/",
        "train-v1.1.json 30288272 3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955",
        "dev-v1.1.json 4854279 95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9"),
    ),
    Task(
        name="squad2", kind="span", group="span", languages=("en",), metric="squad_v2",
        reader=readers.read_squad, files=each("train dev", "squad/{split}-v2.0.json"),
        train_on=("squad2",), eval_split="dev", unanswerable=True,
        batch_size=8, epochs=3, max_length=384, recipe=PAPER,
        sizes="train 130,319, dev 11,873 (remembered)",
        source="Rajpurkar et al. 2018", licence="CC BY-SA 4.0 (remembered)",
        urls=at("https://rajpurkar.github.io/SQuAD-explorer/dataset/",
                "train-v2.0.json", "dev-v2.0.json"),
    ),
    Task(
        name="mnli", kind="classification", group="semantic", languages=("en",), metric="accuracy",
        reader=readers.read_pairs, labels=NLI, train_on=("mnli",), eval_split="dev",
        files={
            "train": ("mnli/multinli_1.0_train.jsonl", "mnli/train.jsonl", "mnli/train.tsv"),
            "dev": ("mnli/multinli_1.0_dev_matched.jsonl", "mnli/val.jsonl",
                    "mnli/dev_matched.tsv"),
        },
        batch_size=24, epochs=2, max_length=256, recipe=PAPER,
        sizes="train 392,702, dev (matched) 9,815",
        source="Williams et al. 2018", licence="MultiNLI's own: OANC and others, free",
        urls=at("https://cims.nyu.edu/~sbowman/multinli/",
        "multinli_1.0.zip 226850426 "
        "049f507b9e36b1fcb756cfd5aeb3b7a0cfcb84bf023793652987f7e7e0957822"),
    ),
    Task(
        name="hellaswag", kind="multiple_choice", group="semantic", languages=("en",),
        reader=readers.read_hellaswag, metric="accuracy",
        files={
            "train": ("hellaswag/hellaswag_train.jsonl",),
            "dev": ("hellaswag/hellaswag_val.jsonl",),
        },
        train_on=("hellaswag",), eval_split="dev",
        batch_size=24, epochs=7, max_length=256, recipe=PAPER,
        sizes="train 39,905, dev 10,042 (remembered)",
        source="Zellers et al. 2019", licence="MIT",
        urls=at("https://github.com/rowanz/hellaswag/raw/master/data/hellaswag_",
        "train.jsonl 47496131 dae5e69249868cb9fe4e23ff925c60b66169564cfb7072d793cd7356a2b69f8d",
        "val.jsonl 12246618 0aa3b88843990f3f10a97b9575c94d7b71fb2205240ba04ae4884d9e9c992588"),
    ),
    Task(
        name="ccg", kind="tagging", group="syntactic", languages=("en",), metric="accuracy",
        reader=readers.read_ccg, labels="ccg*/tags_to_id.json",
        files=each("train dev", "ccg/ccg.{split}", "ccg_handmade/ccg.{split}"),
        train_on=("ccg",), eval_split="dev",
        batch_size=24, epochs=15, max_length=256, recipe=PAPER,
        sizes="train 38,015, dev 5,484 (remembered); 1,363 tags",
        source="Hockenmaier and Steedman 2007 (CCGbank), laid out as for jiant",
        licence="LDC2005T13, to be bought", urls=at("https://catalog.ldc.upenn.edu/", "LDC2005T13"),
    ),
    Task(
        name="mlm", kind="mlm", group="mlm", languages=XTREME_40, codes={"zh": "zh-CN"}, metric="",
        reader=readers.read_documents, files=each("train", "text/mlm/{code}.txt"),
        train_on=("mlm",), eval_split="train",
        batch_size=8, epochs=1, max_length=256,
        recipe="batch: Phang et al. 2020, appendix (remembered), without epochs: one is our choice",
        sizes="as many lines as there are",
        source="any text; the paper took Wikipedia in 40 languages (remembered)",
        licence="the text's own",
    ),
    # ------------------------------------------------------------------------ targets of XTREME
    Task(
        name="xnli", kind="classification", group="semantic", metric="accuracy",
        languages=tuple("en ar bg de el es fr hi ru sw th tr ur vi zh".split()),
        reader=readers.read_pairs, labels=NLI, train_on=("mnli",), benchmarks=BOTH,
        files=each("dev test", "xnli/XNLI-1.0/xnli.{split}.tsv", "xtreme/xnli/{split}-{lang}.tsv",
                   "xnli/{split}-{lang}.tsv"),
        batch_size=32, epochs=2, max_length=256, recipe=JIANT,
        sizes="dev 2,490, test 5,010 per language",
        source="Conneau et al. 2018", licence="CC BY-NC 4.0 (remembered)",
        urls=at("https://dl.fbaipublicfiles.com/XNLI/",
        "XNLI-1.0.zip 17865352 4ba1d5e1afdb7161f0f23c66dc787802ccfa8a25a3ddd3b165a35e50df346ab1"),
    ),
    Task(
        name="udpos", kind="tagging", group="syntactic", metric="chunk_f1",
        languages=tuple("en af ar bg de el es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru "
                        "ta te th tl tr ur vi yo zh".split()),
        xtreme_r=("lt", "pl", "uk", "wo", "ro"),
        reader=readers.read_udpos, labels=UPOS, train_on=("udpos",), benchmarks=BOTH,
        files=each("train dev test", "ud/*/{lang}_*-ud-{split}.conllu",
                   "xtreme/udpos/{split}-{lang}.tsv", "udpos/{split}-{lang}.tsv"),
        batch_size=32, epochs=10, max_length=256, recipe=JIANT,
        sizes="English train 21,253, dev 3,974, test 5,440; other tests 47 (mr) to 22,358 (de)",
        source="Universal Dependencies 2.5 (for XTREME-R's additions 2.7)", licence="per treebank",
        urls=at("https://lindat.mff.cuni.cz/repository/xmlui/bitstream/handle/11234/1-3105/",
        "ud-treebanks-v2.5.tgz 355216681 "
        "5ff973e44345a5f69b94cc1427158e14e851c967d58773cc2ac5a1d3adaca409"),
    ),
    Task(
        name="panx", kind="tagging", group="entity", metric="chunk_f1",
        languages=XTREME_40, xtreme_r=("qu", "pl", "uk", "az", "lt", "pa", "gu", "ro"),
        reader=readers.read_tagged, labels=IOB2, train_on=("panx",), benchmarks=BOTH,
        files=each("train dev test", "panx/{lang}/{split}", "panx_raw/{lang}/{split}",
                   "xtreme/panx/{split}-{lang}.tsv", "panx/{split}-{lang}.tsv"),
        batch_size=32, epochs=10, max_length=256, recipe=JIANT,
        sizes="English train 20,000, dev 10,000, test 10,000; other tests 100 to 10,000",
        source="Pan et al. 2017, in the splits of Rahimi et al. 2019", licence="none stated",
        urls=at("https://s3.amazonaws.com/datasets.huggingface.co/wikiann/1.1.0/",
        "panx_dataset.zip 234008884 "
        "164814b64f749ad000988b5ab45050b5116913b3db466ab173008955ddf649a4"),
    ),
    Task(
        name="tydiqa", kind="span", group="span", metric="squad_v1",
        languages=tuple("en ar bn fi id ko ru sw te".split()),
        codes={code: word for word, code in readers.TYDIQA_WORDS.items()},
        reader=readers.read_squad, train_on=("tydiqa",), dev_share=0.1, benchmarks=BOTH,
        files={
            "train": ("tydiqa/tydiqa-goldp-v1.1-train.json",
                      "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.{lang}.train.json"),
            "test": ("tydiqa/tydiqa-goldp-v1.1-dev.json",
                     "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-{code}.json",
                     "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.{lang}.dev.json",
                     "tydiqa/xtreme_blanked/tydiqa.goldp.{lang}.dev.json"),
        },
        batch_size=16, epochs=2, max_length=384, recipe=JIANT,
        sizes="English train 3,696; test (the official dev set) 5,077 in nine languages",
        source="Clark et al. 2020, gold passage task 1.1", licence="Apache 2.0",
        urls=at("https://storage.googleapis.com/tydiqa/v1.1/tydiqa-goldp-v1.1-",
        "train.json 58004076 cefc8e09ff2548d9b10a678d3a6bbbe5bc036be543f92418819ea676c97be23b",
        "dev.json 5617409 b286e0f34bc7f52259359989716f369b160565bd12ad8f3a3e311f9b0dbad1c0"),
    ),
    Task(
        name="tatoeba", kind="retrieval", group="retrieval", metric="retrieval_accuracy",
        languages=tuple("ar he vi id jv tl eu ml ta te af nl de el bn hi mr ur fa fr it pt es bg "
                        "ru ja ka ko th sw zh kk tr et fi hu".split()),
        xtreme_r=("az", "lt", "pl", "uk", "ro"), codes=LASER,
        reader=readers.read_tatoeba, benchmarks=BOTH,
        files=each("test", "tatoeba/v1/tatoeba.{code}-eng.*", "xtreme/tatoeba/{lang}-en.*",
                   "tatoeba/{lang}-en.*"),
        batch_size=100, epochs=0, max_length=512, recipe="XTREME's scripts; nothing is trained",
        sizes="1,000 pairs per language; jv 205 te 234 ta 307 sw 390 th 548 kk 575 ml 687 ka 746",
        source="Artetxe and Schwenk 2019", licence="CC BY 2.0 FR (remembered)",
        urls=at("https://github.com/facebookresearch/LASER/archive/", "main.zip"),
    ),
)

TASKS: dict[str, Task] = {row.name: row for row in ROWS}


def get(name: str) -> Task:
    """The row of a task. Raises UserError, with the nearest name, where there is none."""
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(TASKS)}"
        raise UserError(f"unknown task {name!r} ({hint})")
    return TASKS[name]


def world(data: Path) -> dict[str, str]:
    """What world.json says of the data folder: {"world": "toy", "english": "toy-en", ...}.

    Without that file the data is real and English is "en".
    """
    path = data / "world.json"
    if not path.exists():
        return {"world": "real", "english": "en"}
    record = readers.read_json(path)
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
    for pattern in task.files.get(split, ()):
        if "{" not in pattern and len(task.languages) == 1 and lang != world(data)["english"]:
            continue  # one file, of English: there is nothing else in it
        paths = _matches(data, pattern.format(lang=lang, code=task.codes.get(lang, lang)))
        if paths:
            return paths
    return []


def _matches(data: Path, pattern: str) -> list[Path]:
    paths = sorted(data.glob(pattern), key=lambda path: (path.name, str(path)))
    for path in paths:
        if not path.resolve().is_relative_to(data.resolve()):
            raise UserError("a link out of the data folder. Put the file itself there", path)
    return [path for path in paths if path.is_file()]


def languages(task: Task, data: Path, split: str) -> list[str]:
    """The languages that load() would find: English first, the row's order next, then others."""
    english = world(data)["english"]
    found = set()
    for pattern in task.files.get(split, ()):
        if "{" in pattern:
            found |= _names(task, data, pattern)
        elif paths := _matches(data, pattern):
            found |= {english} if len(task.languages) == 1 else _held(task, data, paths)
            break  # find() never gets past a file of several languages
    if not found and split == "dev" and task.dev_share:
        return languages(task, data, "train")
    order = [english, *task.languages, *task.xtreme_r, *sorted(found)]
    return [lang for lang in dict.fromkeys(order) if lang in found]


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
    known, names = labels(task, data), world(data).get("languages", task.languages)
    return {lang for lang in names if any(True for _ in task.reader(paths, lang, known))}


def labels(task: Task, data: Path) -> tuple[str, ...]:
    """The task's labels in the order of their numbers.

    Raises UserError where they are in a file that is missing or not {tag: one of 0..n-1}.
    """
    if not isinstance(task.labels, str):
        return task.labels
    paths = _matches(data, task.labels)
    if not paths:
        raise UserError(f"the list of labels is missing (expected {task.labels})", data)
    numbers = readers.read_json(paths[0])
    tags = {str(number): tag for tag, number in numbers.items()} if type(numbers) is dict else {}
    order = [tags.get(str(number)) for number in range(len(numbers) if tags else 0)]
    if not order or None in order:
        raise UserError("expected an object {tag: number} with the numbers 0, 1, 2, ...", paths[0])
    return tuple(order)


def load(task: Task, data: Path, split: str, lang: str) -> Split:
    """Reads one split in one language.

    Where the row has a dev_share and the data no dev files, dev is that share of the training
    paragraphs and train is the rest. Raises UserError for missing or empty files, for gold in some
    rows only, and for whatever the reader finds.
    """
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


def _is_dev(example: readers.Span, share: float) -> bool:
    """Whether a paragraph is dev: by its text, so that no context lies on both sides."""
    digest = hashlib.sha256(example.context.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _is_labelled(examples: list, path: Path) -> bool:
    golds = [example[-1] for example in examples if example[-1] != ()]  # (): a candidate, say
    missing = golds.count(None)
    if 0 < missing < len(golds):
        row = next(example.row for example in examples if example[-1] is None)
        raise UserError(f"{missing} of {len(golds)} examples have no gold, as this one", path, row)
    return missing == 0

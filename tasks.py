"""The datasheet: one row per data set.

A row says everything the program needs to know about a data set; nothing outside this file is
keyed by a task's name. To add a data set of a known format, add its row.

In a row, `files` lists candidates below the data folder, the first that exists is read: a data
set's own form first, then what XTREME's scripts make of it. {lang}, {code} and {english} (English
itself: "en", but in the toy world) are filled in, * matches any name. "Remembered" marks what could
not be looked up: check it before relying on it.
"""

import difflib
from dataclasses import dataclass, field, replace
from typing import Callable

import readers
import tagging
from files import UserError


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
    english_splits: tuple[str, ...] = ()  # of a row of several languages: one file, in English
    xtreme_r: tuple[str, ...] = ()  # languages that XTREME-R adds
    codes: dict[str, str] = field(default_factory=dict)  # language -> its name in file names
    labels: tuple[str, ...] | str = ()  # a str: pattern of a JSON file {tag: number}
    search: str = ""  # retrieval: pairs | mining | ranked
    metric: str  # of metrics.py; "" for mlm
    members: tuple[str, ...] = ()  # rows pooled under this one's head; they bring the files
    train_on: tuple[str, ...] = ()  # rows trained on in order, with one head; (): nothing to train
    eval_split: str = "test"
    dev_share: float = 0.0  # of the training paragraphs that are dev where there are no dev files
    benchmarks: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()  # of studies/, each with the row's part in it: "reasoning:core"
    parallel: bool = False  # the same items in all languages, in file order or by id (its source)
    scored_only: bool = False  # read and scored, but not run: `recipe` says why
    fixture_only: bool = False  # never run on a real file by this project's tests
    official: bool = True  # whether XTREME's evaluate.py scores it
    batch_size: int  # examples per optimizer step
    epochs: float
    max_length: int  # pieces
    stride: int = 128  # span: pieces between the starts of two windows
    max_question: int = 64  # span: pieces
    max_answer: int = 30  # span: pieces
    alpha: float = 0.5  # several training languages are drawn with p ~ items ** alpha (ours)
    unanswerable: bool = False  # span: whether "" may be the right answer
    recipe: str  # where these numbers come from
    sizes: str  # examples per split
    source: str
    licence: str
    urls: tuple[str, ...] = ()  # downloads; {lang} and {code} as in files

    @property
    def form(self) -> str:
        """What decides the form of answers and prediction files."""
        return self.search or self.kind


def each(splits: str, *patterns: str) -> dict[str, tuple[str, ...]]:
    """{split: candidates} from patterns that hold {split}."""
    return {
        split: tuple(pattern.replace("{split}", split) for pattern in patterns)
        for split in splits.split()
    }


def at(folder: str, *names: str) -> tuple[str, ...]:
    """Downloads below one URL; downloads.tsv has the bytes and sha256 of those that are known."""
    return tuple(folder + name for name in names)


PAPER = "batch, epochs: Phang et al. 2020, appendix (remembered); length: jiant's scripts"
JIANT = "jiant's XTREME scripts; batch, epochs also Phang et al. 2020, appendix (remembered)"
XTREME = "XTREME's scripts; batch, epochs and length"
WORDS = {"kind": "tagging", "languages": ("en",), "eval_split": "dev", "batch_size": 24,
         "epochs": 15, "max_length": 256, "recipe": "our choice, as ccg"}
BOTH = ("xtreme", "xtreme-r")
NLI = ("contradiction", "entailment", "neutral")
UPOS = tuple(
    "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split())
RELATIONS = tuple(
    "acl advcl advmod amod appos aux case cc ccomp clf compound conj cop csubj dep det discourse "
    "dislocated expl fixed flat goeswith iobj list mark nmod nsubj nummod obj obl orphan parataxis "
    "punct reparandum root vocative xcomp".split())
IOB2 = ("B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O")
XTREME_40 = tuple(
    "en ar he vi id jv ms tl eu ml ta te af nl de el bn hi mr ur fa fr it pt es bg ru ja ka ko th "
    "sw yo my zh kk tr et fi hu".split())
LASER = dict(pair.split("=") for pair in (
    "af=afr ar=ara az=aze bg=bul bn=ben de=deu el=ell es=spa et=est eu=eus fa=pes fi=fin fr=fra "
    "he=heb hi=hin hu=hun id=ind it=ita ja=jpn jv=jav ka=kat kk=kaz ko=kor lt=lit ml=mal mr=mar "
    "nl=nld pl=pol pt=por ro=ron ru=rus sw=swh ta=tam te=tel th=tha tl=tgl tr=tur uk=ukr ur=urd "
    "vi=vie zh=cmn").split())

TREEBANKS = at("https://lindat.mff.cuni.cz/repository/xmlui/bitstream/handle/11234/",
               "1-3105/ud-treebanks-v2.5.tgz", "1-3424/ud-treebanks-v2.7.tgz")

LAREQA = Task(
    name="lareqa", kind="retrieval", search="ranked", group="retrieval", metric="lareqa_map20",
    parallel=True,
    languages=tuple("en ar de el es hi ru th tr vi zh".split()), reader=readers.read_lareqa,
    files={"train": ("squad/train-v1.1.json",), "dev": ("squad/dev-v1.1.json",),
           "test": ("lareqa/xquad-r/{lang}.json",)},
    english_splits=("train", "dev"), train_on=("lareqa",), benchmarks=("xtreme-r",), official=False,
    batch_size=16, epochs=3, max_length=352, recipe=XTREME,
    sizes="1,190 questions per language, 13,014 candidate sentences in all",
    source="Roy et al. 2020, XQuAD-R", licence="CC BY-SA 4.0",
    urls=at("https://github.com/google-research-datasets/lareqa/raw/master/xquad-r/",
            "{lang}.json"),
)

ROWS = (
    # ------------------------------------------------------------ intermediate tasks, in English
    Task(
        name="squad", kind="span", group="span", languages=("en",), metric="squad_v1",
        reader=readers.read_squad, train_on=("squad",), eval_split="dev",
        studies=("lowres:inter",),
        files={"train": ("squad/train-v1.1.json",
                         "mlqa/mlqa-translate-train/{lang}_squad-translate-train-train-v1.1.json"),
               "dev": ("squad/dev-v1.1.json",)},
        batch_size=8, epochs=3, max_length=384, recipe=PAPER, sizes="train 87,599, dev 10,570",
        source="Rajpurkar et al. 2016", licence="CC BY-SA 4.0 (remembered)",
        urls=at("https://rajpurkar.github.io/SQuAD-explorer/dataset/",
                "train-v1.1.json", "dev-v1.1.json"),
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
        studies=("lowres:inter", "syntax:core"),
        files={
            "train": ("mnli/multinli_1.0_train.jsonl", "mnli/train.jsonl", "mnli/train.tsv",
                      "xnli/XNLI-MT-1.0/multinli/multinli.train.{lang}.tsv",
                      "xtreme/xnli/train-{lang}.tsv", "xnli/train-{lang}.tsv"),
            "dev": ("mnli/multinli_1.0_dev_matched.jsonl", "mnli/val.jsonl",
                    "mnli/dev_matched.tsv",  # then XTREME's choice: the English dev set of XNLI
                    "xtreme/xnli/dev-{english}.tsv", "xnli/dev-{english}.tsv"),
        }, batch_size=24, epochs=2, max_length=256, recipe=PAPER,
        sizes="train 392,702, dev (matched) 9,815",
        source="Williams et al. 2018", licence="MultiNLI's own: OANC and others, free",
        urls=at("https://cims.nyu.edu/~sbowman/multinli/", "multinli_1.0.zip"),
    ),
    Task(
        name="snli", kind="classification", group="semantic", languages=("en",), metric="accuracy",
        reader=readers.read_pairs, labels=NLI, train_on=("snli",), eval_split="dev",
        files={"train": ("snli/snli_1.0_train.jsonl", "snli/snli_1.0_train.txt",
                         "snli/train.jsonl"),
               "dev": ("snli/snli_1.0_dev.jsonl", "snli/snli_1.0_dev.txt", "snli/val.jsonl")},
        batch_size=24, epochs=2, max_length=256, recipe=PAPER,
        sizes="train 549,367, dev 9,842 with a gold label",
        source="Bowman et al. 2015", licence="CC BY-SA 4.0 (remembered)",
        urls=at("https://nlp.stanford.edu/projects/snli/", "snli_1.0.zip"),
    ),
    *(Task(
        name=f"anli{number}", kind="classification", group="semantic", languages=("en",),
        reader=readers.read_pairs, labels=NLI, metric="accuracy", train_on=(f"anli{number}",),
        eval_split="dev",
        files=each("train dev test", f"anli_v1.0/R{number}/{{split}}.jsonl",
                   f"anli_v0.1/R{number}/{{split}}.jsonl"),
        batch_size=24, epochs=2, max_length=256, recipe=PAPER, sizes=sizes,
        source="Nie et al. 2020", licence="CC BY-NC 4.0",
        urls=at("https://dl.fbaipublicfiles.com/anli/", "anli_v0.1.zip"),
    ) for number, sizes in ((1, "train 16,946, dev 1,000"), (2, "train 45,460, dev 1,000"),
                            (3, "train 100,459, dev 1,200"))),
    Task(
        name="anliplus", kind="classification", group="semantic", languages=("en",),
        reader=readers.read_pairs, labels=NLI, metric="accuracy",
        members=("anli1", "anli2", "anli3", "mnli", "snli"), files={},
        train_on=("anliplus",), eval_split="dev",
        batch_size=24, epochs=2, max_length=256, recipe=PAPER,
        sizes="train 1,104,934, dev 22,857 (remembered)",
        source="the paper's ANLI+: ANLI, MultiNLI and SNLI under one head", licence="its members'",
    ),
    Task(
        name="qqp", kind="classification", group="semantic", languages=("en",), metric="acc_and_f1",
        reader=readers.read_pairs, labels=("0", "1"), train_on=("qqp",), eval_split="dev",
        studies=("syntax:core",),
        files={"train": ("qqp/train.tsv", "qqp/train.{lang}.tsv"),
               "dev": ("qqp/dev.tsv", "qqp/val.jsonl")},
        batch_size=24, epochs=3, max_length=256, recipe=PAPER,
        sizes="train 363,846, dev 40,430 (remembered)",
        source="Quora, in GLUE's files", licence="Quora's terms, non-commercial",
        urls=at("https://dl.fbaipublicfiles.com/glue/data/", "QQP-clean.zip"),
    ),
    Task(
        name="cosmosqa", kind="multiple_choice", group="semantic", languages=("en",),
        reader=readers.read_cosmosqa, metric="accuracy", train_on=("cosmosqa",), eval_split="dev",
        studies=("syntax:more",),
        files={"train": ("cosmosqa/train.csv",), "dev": ("cosmosqa/valid.csv",),
               "test": ("cosmosqa/test.jsonl",)}, batch_size=4, epochs=15, max_length=256,
        recipe=PAPER, sizes="train 25,588, dev 3,000 (remembered; the file has 2,985)",
        source="Huang et al. 2019", licence="CC BY 4.0 (by its card)",
        urls=at("https://github.com/wilburOne/cosmosqa/raw/master/data/",
                "train.csv", "valid.csv", "test.jsonl"),
    ),
    Task(
        name="commonsenseqa", kind="multiple_choice", group="semantic", languages=("en",),
        reader=readers.read_commonsenseqa, metric="accuracy", train_on=("commonsenseqa",),
        eval_split="dev", files={"train": ("commonsenseqa/train_rand_split.jsonl",),
               "dev": ("commonsenseqa/dev_rand_split.jsonl",),
               "test": ("commonsenseqa/test_rand_split_no_answers.jsonl",)},
        batch_size=4, epochs=10, max_length=256, recipe=PAPER,
        sizes="train 9,741, dev 1,221, test 1,140 without labels",
        source="Talmor et al. 2019", licence="MIT",
        urls=at("https://s3.amazonaws.com/commensenseqa/", "train_rand_split.jsonl",
                "dev_rand_split.jsonl", "test_rand_split_no_answers.jsonl"),
    ),
    Task(
        name="siqa", kind="multiple_choice", group="semantic", languages=("en",), metric="accuracy",
        reader=readers.read_siqa, train_on=("siqa",), eval_split="dev",
        files={"train": ("siqa/socialIQa_v1.4_trn.jsonl",),
               "dev": ("siqa/socialIQa_v1.4_dev.jsonl",)},
        batch_size=32, epochs=5, max_length=128, recipe=XTREME,
        sizes="train 33,410, dev 1,954", source="Sap et al. 2019",
        licence="not stated", fixture_only=True,
        urls=at("https://maartensap.github.io/social-iqa/data/", "socialIQa_v1.4.tgz"),
    ),
    Task(
        name="copa", kind="multiple_choice", group="semantic", languages=("en",), metric="accuracy",
        reader=readers.read_copa, train_on=("copa",), eval_split="dev",
        files={"train": ("copa/train.jsonl", "xtreme/xcopa/train-en.jsonl", "xcopa/train-en.jsonl"),
               "dev": ("copa/val.jsonl", "xtreme/xcopa/val-en.jsonl", "xcopa/val-en.jsonl")},
        batch_size=32, epochs=5, max_length=128, recipe=XTREME,
        sizes="train 400, dev 100 (remembered)",
        source="Roemmele et al. 2011, in SuperGLUE's files", licence="BSD 2-clause",
        urls=at("https://dl.fbaipublicfiles.com/glue/superglue/data/v2/", "COPA.zip"),
    ),
    # ------------------------------------------- syntactic and semantic tasks of one study, English
    Task(
        **WORDS, name="upos", group="syntactic", metric="accuracy",
        reader=tagging.read_upos, labels=UPOS, train_on=("upos",),
        studies=("syntax:core",),
        files=each("train dev test", "ud/*/{english}_*-ud-{split}.conllu"),
        sizes="as udpos in English", source="Universal Dependencies", licence="per treebank",
        urls=TREEBANKS[:1],
    ),
    Task(
        **WORDS, name="deprel", group="syntactic", metric="accuracy",
        reader=tagging.read_relations, labels=RELATIONS, train_on=("deprel",),
        studies=("syntax:core",),
        files=each("train dev test", "ud/*/{english}_*-ud-{split}.conllu"),
        sizes="as udpos in English", source="Universal Dependencies", licence="per treebank",
        urls=TREEBANKS[:1],
    ),
    Task(
        **WORDS | {"eval_split": "test"}, name="chunk", group="syntactic", metric="chunk_f1",
        reader=tagging.read_chunks, labels="*", train_on=("chunk",), dev_share=0.1,
        studies=("syntax:core",),
        files=each("train test", "conll2000/{split}.txt"),
        sizes="train 8,936, test 2,012 (remembered)",
        source="Tjong Kim Sang and Buchholz 2000", licence="LDC's, for research (remembered)",
        fixture_only=True, urls=at("https://www.clips.uantwerpen.be/conll2000/chunking/",
                                   "train.txt.gz", "test.txt.gz"),
    ),
    Task(
        name="cola", kind="classification", group="syntactic", languages=("en",), metric="accuracy",
        reader=readers.read_cola, labels=("0", "1"), train_on=("cola",), eval_split="dev",
        studies=("syntax:core",),
        files=each("train dev test", "cola/{split}.tsv"),
        batch_size=24, epochs=3, max_length=128, recipe="our choice",
        sizes="train 8,551, dev 1,043 (remembered)",
        source="Warstadt et al. 2019, in GLUE's files", fixture_only=True, licence="not stated",
        urls=at("https://dl.fbaipublicfiles.com/glue/data/", "CoLA.zip"),
    ),
    Task(
        **WORDS, name="semtag", group="semantic", metric="accuracy",
        reader=tagging.read_tagged, labels="*", train_on=("semtag",),
        studies=("syntax:core",),
        files=each("train dev test", "semtag/{split}.tsv"), sizes="as the user's files",
        source="Parallel Meaning Bank, as word TAB tag", fixture_only=True, licence="per release",
    ),
    Task(
        **WORDS, name="supersense", group="semantic", metric="accuracy",
        reader=tagging.read_tagged, labels="*", train_on=("supersense",),
        studies=("syntax:core",),
        files=each("train dev test", "supersense/{split}.tsv"), sizes="as the user's files",
        source="STREUSLE, as word TAB tag", fixture_only=True, licence="CC BY-SA 4.0 (remembered)",
    ),
    Task(
        name="hellaswag", kind="multiple_choice", group="semantic", languages=("en",),
        reader=readers.read_hellaswag, metric="accuracy",
        studies=("syntax:more",),
        files={
            "train": ("hellaswag/hellaswag_train.jsonl", "hellaswag/hellaswag_train.{lang}.jsonl"),
            "dev": ("hellaswag/hellaswag_val.jsonl",),
        }, train_on=("hellaswag",), eval_split="dev",
        batch_size=24, epochs=7, max_length=256, recipe=PAPER,
        sizes="train 39,905, dev 10,042 (remembered)", source="Zellers et al. 2019", licence="MIT",
        urls=at("https://github.com/rowanz/hellaswag/raw/master/data/",
                "hellaswag_train.jsonl", "hellaswag_val.jsonl"),
    ),
    Task(
        name="ccg", kind="tagging", group="syntactic", languages=("en",), metric="accuracy",
        reader=tagging.read_ccg, labels="ccg*/tags_to_id.json",
        studies=("syntax:more",),
        files=each("train dev", "ccg/ccg.{split}", "ccg_handmade/ccg.{split}"),
        train_on=("ccg",), eval_split="dev",
        batch_size=24, epochs=15, max_length=256, recipe=PAPER,
        sizes="train 38,015, dev 5,484 (remembered); 1,363 tags",
        source="Hockenmaier and Steedman 2007 (CCGbank), laid out as for jiant",
        licence="LDC2005T13, to be bought", fixture_only=True,
        urls=at("https://catalog.ldc.upenn.edu/", "LDC2005T13"),
    ),
    Task(
        name="mlm", kind="mlm", group="mlm", languages=XTREME_40, codes={"zh": "zh-CN"}, metric="",
        reader=readers.read_documents, files=each("train", "text/mlm/{code}.txt"),
        train_on=("mlm",), eval_split="train",
        batch_size=8, epochs=1, max_length=256, alpha=0.3,
        recipe="batch: Phang et al. 2020, appendix (remembered), without epochs: one is ours; "
        "alpha: XLM-R's pretraining (remembered), the paper's own was not found",
        sizes="as many lines as there are",
        source="any text; the paper took Wikipedia in 40 languages (remembered)",
        licence="the text's own",
    ),
    # ------------------------------------------------------------------------ targets of XTREME
    Task(
        name="xnli", kind="classification", group="semantic", metric="accuracy", parallel=True,
        languages=tuple("en ar bg de el es fr hi ru sw th tr ur vi zh".split()),
        reader=readers.read_pairs, labels=NLI, train_on=("mnli",), benchmarks=BOTH,
        studies=("reasoning:core", "attack:full", "lowres:more"),
        files=each("dev test", "xnli/XNLI-1.0/xnli.{split}.tsv", "xtreme/xnli/{split}-{lang}.tsv",
                   "xnli/{split}-{lang}.tsv"),
        batch_size=32, epochs=2, max_length=256, recipe=JIANT,
        sizes="dev 2,490, test 5,010 per language",
        source="Conneau et al. 2018", licence="CC BY-NC 4.0 (remembered)",
        urls=at("https://dl.fbaipublicfiles.com/XNLI/", "XNLI-1.0.zip"),
    ),
    Task(
        name="pawsx", kind="classification", group="semantic", metric="accuracy", parallel=True,
        languages=tuple("en de es fr ja ko zh".split()), reader=readers.read_pairs,
        labels=("0", "1"), train_on=("pawsx",), benchmarks=("xtreme",),
        studies=("reasoning:core", "attack:core"),
        files={"train": ("pawsx/x-final/{lang}/train.tsv",
                         "pawsx/x-final/{lang}/translated_train.tsv",
                         "xtreme/pawsx/train-{lang}.tsv", "pawsx/train-{lang}.tsv")}
        | each("dev test", "pawsx/x-final/{lang}/{split}_2k.tsv", "xtreme/pawsx/{split}-{lang}.tsv",
               "pawsx/{split}-{lang}.tsv"),
        batch_size=32, epochs=5, max_length=256, recipe=JIANT,
        sizes="train 49,401, dev 2,000, test 2,000 per language",
        source="Yang et al. 2019", licence="free for any purpose",
        urls=at("https://storage.googleapis.com/paws/pawsx/", "x-final.tar.gz"),
    ),
    Task(
        name="udpos", kind="tagging", group="syntactic", metric="chunk_f1",
        languages=tuple("en af ar bg de el es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru "
                        "ta te th tl tr ur vi yo zh".split()),
        xtreme_r=("lt", "pl", "uk", "wo", "ro"),
        reader=tagging.read_udpos, labels=UPOS, train_on=("udpos",), benchmarks=BOTH,
        studies=("noise:core", "attack:full", "lowres:more", "syntax:target"),
        files=each("train dev test", "ud/*/{lang}_*-ud-{split}.conllu",
                   "xtreme/udpos/{split}-{lang}.tsv", "udpos/{split}-{lang}.tsv"),
        batch_size=32, epochs=10, max_length=256, recipe=JIANT,
        sizes="English train 21,253, dev 3,974, test 5,440; other tests 47 (mr) to 22,358 (de)",
        source="Universal Dependencies 2.5 (for XTREME-R's additions 2.7)", licence="per treebank",
        urls=TREEBANKS,
    ),
    Task(
        name="panx", kind="tagging", group="entity", metric="chunk_f1",
        languages=XTREME_40, xtreme_r=("qu", "pl", "uk", "az", "lt", "pa", "gu", "ro"),
        reader=tagging.read_panx, labels=IOB2, train_on=("panx",), benchmarks=BOTH,
        studies=("noise:core", "attack:core", "lowres:core", "syntax:target"),
        files=each("train dev test", "panx/{lang}/{split}", "panx_raw/{lang}/{split}",
                   "xtreme/panx/{split}-{lang}.tsv", "panx/{split}-{lang}.tsv"),
        batch_size=32, epochs=10, max_length=256, recipe=JIANT,
        sizes="English train 20,000, dev 10,000, test 10,000; other tests 100 to 10,000",
        source="Pan et al. 2017, in the splits of Rahimi et al. 2019, whose Amazon link is dead: "
        "either of these archives is a copy",
        licence="none stated",
        urls=("https://s3.amazonaws.com/datasets.huggingface.co/wikiann/1.1.0/panx_dataset.zip",
              "https://www.dropbox.com/s/12h3qqog6q4bjve/panx_dataset.tar?dl=1"),
    ),
    Task(
        name="xquad", kind="span", group="span", metric="squad_v1", train_on=("squad",),
        parallel=True,
        languages=tuple("en es de el ru tr ar vi th zh hi".split()), xtreme_r=("ro",),
        reader=readers.read_squad, files=each("test", "xquad/xquad.{lang}.json"), benchmarks=BOTH,
        studies=("reasoning:extended", "attack:full"),
        batch_size=16, epochs=2, max_length=384, recipe=JIANT, sizes="test 1,190 per language",
        source="Artetxe et al. 2020", licence="CC BY-SA 4.0",
        urls=at("https://github.com/deepmind/xquad/raw/master/", "xquad.{lang}.json"),
    ),
    Task(
        name="mlqa", kind="span", group="span", metric="squad_mlqa", train_on=("squad",),
        parallel=True,
        languages=tuple("en es de ar hi vi zh".split()), reader=readers.read_squad, benchmarks=BOTH,
        studies=("reasoning:extended", "attack:full"),
        files=each("dev test", "mlqa/MLQA_V1/{split}/{split}-context-{lang}-question-{lang}.json",
                   "mlqa/xtreme_blanked/{split}-context-{lang}-question-{lang}.json"),
        batch_size=16, epochs=2, max_length=384, recipe=JIANT,
        sizes="test en 11,590, de 4,517, es 5,253, ar 5,335, zh 5,137, vi 5,495, hi 4,918",
        source="Lewis et al. 2020", licence="CC BY-SA 3.0",
        urls=at("https://dl.fbaipublicfiles.com/MLQA/", "MLQA_V1.zip"),
    ),
    Task(
        name="tydiqa", kind="span", group="span", metric="squad_v1",
        languages=tuple("en ar bn fi id ko ru sw te".split()),
        codes={code: word for word, code in readers.TYDIQA_WORDS.items()},
        reader=readers.read_squad, train_on=("tydiqa",), dev_share=0.1, benchmarks=BOTH,
        studies=("reasoning:extended", "noise:core", "attack:core", "lowres:core"),
        files={
            "train": ("tydiqa/tydiqa-goldp-v1.1-train.json",
                      "tydiqa/tydiqa-goldp-v1.1-train/tydiqa.goldp.{lang}.train.json"),
            "test": ("tydiqa/tydiqa-goldp-v1.1-dev.json",
                     "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-{code}.json",
                     "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa.goldp.{lang}.dev.json",
                     "tydiqa/xtreme_blanked/tydiqa.goldp.{lang}.dev.json"),
        }, batch_size=16, epochs=2, max_length=384, recipe=JIANT,
        sizes="English train 3,696; test (the official dev set) 5,077 in nine languages",
        source="Clark et al. 2020, gold passage task 1.1", licence="Apache 2.0",
        urls=at("https://storage.googleapis.com/tydiqa/v1.1/",
                "tydiqa-goldp-v1.1-train.json", "tydiqa-goldp-v1.1-dev.json"),
    ),
    Task(
        name="tatoeba", kind="retrieval", search="pairs", group="retrieval",
        metric="retrieval_accuracy",
        languages=tuple("ar he vi id jv tl eu ml ta te af nl de el bn hi mr ur fa fr it pt es bg "
                        "ru ja ka ko th sw zh kk tr et fi hu".split()),
        xtreme_r=("az", "lt", "pl", "uk", "ro"), codes=LASER,
        reader=readers.read_tatoeba, benchmarks=BOTH,
        studies=("noise:core", "attack:full", "lowres:more"),
        files=each("test", "tatoeba/v1/tatoeba.{code}-eng.*", "xtreme/tatoeba/{lang}-en.*",
                   "tatoeba/{lang}-en.*"),
        batch_size=100, epochs=0, max_length=512, recipe="XTREME's scripts; nothing is trained",
        sizes="1,000 pairs per language; jv 205 te 234 ta 307 sw 390 th 548 kk 575 ml 687 ka 746",
        source="Artetxe and Schwenk 2019", licence="CC BY 2.0 FR (remembered)",
        urls=at("https://github.com/facebookresearch/LASER/raw/main/data/tatoeba/v1/",
                "tatoeba.{code}-eng.{code}", "tatoeba.{code}-eng.eng"),
    ),
    Task(
        name="bucc2018", kind="retrieval", search="mining", group="retrieval", metric="mined_f1",
        languages=tuple("de fr ru zh".split()), reader=readers.read_bucc, benchmarks=("xtreme",),
        files={"dev": ("bucc2018/{lang}-en/{lang}-en.sample.*",
                       "bucc2018/{lang}-en/{lang}-en.dev.*", "xtreme/bucc2018/{lang}-en.dev.*",
                       "bucc2018/{lang}-en.dev.*"),
               "test": ("bucc2018/{lang}-en/{lang}-en.training.*",
                        "bucc2018/{lang}-en/{lang}-en.test.*", "xtreme/bucc2018/{lang}-en.test.*",
                        "bucc2018/{lang}-en.test.*")},
        batch_size=100, epochs=0, max_length=512, recipe="XTREME's scripts; nothing is trained",
        sizes="gold pairs dev/test: de 1,038/9,580 fr 929/9,086 ru 2,374/14,435 zh 257/1,899",
        source="Zweigenbaum et al. 2018; its sample is dev, its training part is test",
        licence="not found", urls=at("https://comparable.limsi.fr/bucc2018/",
                                     "bucc2018-{lang}-en.sample-gold.tar.bz2",
                                     "bucc2018-{lang}-en.training-gold.tar.bz2"),
    ),
    # ---------------------------------------------------------------- what XTREME-R adds
    Task(
        name="xcopa", kind="multiple_choice", group="semantic", metric="accuracy", parallel=True,
        languages=tuple("et ht id it qu sw ta th tr vi zh".split()), reader=readers.read_copa,
        files={"dev": ("xcopa/data/{lang}/val.{lang}.jsonl", "xtreme/xcopa/val-{lang}.jsonl",
                       "xcopa/val-{lang}.jsonl"),
               "test": ("xcopa/data/{lang}/test.{lang}.jsonl", "xtreme/xcopa/test-{lang}.jsonl",
                        "xcopa/test-{lang}.jsonl")},
        train_on=("siqa", "copa"), benchmarks=("xtreme-r",), batch_size=32, epochs=5,
        studies=("reasoning:apart", "noise:core", "attack:core", "lowres:more"),
        max_length=128, recipe=XTREME, sizes="dev 100, test 500 per language",
        source="Ponti et al. 2020", licence="CC BY 4.0",
        urls=at("https://raw.githubusercontent.com/cambridgeltl/xcopa/master/data/",
                "{lang}/val.{lang}.jsonl", "{lang}/test.{lang}.jsonl"),
    ),
    LAREQA,
    replace(LAREQA, name="lareqa_untrained", train_on=(), epochs=0, benchmarks=(),
            files={"test": LAREQA.files["test"]}),
    Task(
        name="mewslix", kind="retrieval", search="ranked", group="retrieval",
        metric="mention_map20", languages=tuple("en ar de es fa ja pl ro ta tr uk".split()),
        reader=readers.read_mewslix, benchmarks=("xtreme-r",),
        files=each("dev test", "mewslix/wikinews_mentions/{split}-{lang}.jsonl"),
        batch_size=64, epochs=0, max_length=64,
        recipe="reader, scorer and prediction file only: its million entities are not searched",
        sizes="dev 2,991, test 14,624 mentions", fixture_only=True, scored_only=True,
        source="Ruder et al. 2021; the released data are another sample than the paper's",
        licence="not found",
        urls=at("https://storage.googleapis.com/gresearch/mewsli/", "mewsli-x_20220518_6.zip"),
    ),
)

INTERMEDIATE = ("anliplus", "mnli", "qqp", "squad", "squad2", "hellaswag", "ccg", "cosmosqa",
                "commonsenseqa")      # the paper's nine
TASKS: dict[str, Task] = {row.name: row for row in ROWS}


def get(name: str) -> Task:
    """The row of a task. Raises UserError, with the nearest name, where there is none."""
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(TASKS)}"
        raise UserError(f"unknown task {name!r} ({hint})")
    return TASKS[name]

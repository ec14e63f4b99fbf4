"""Run recorded encodings through our tokenizer and featurizer.

    python tests/check_tokenizer.py VOCABULARY FILE...

VOCABULARY: sentencepiece.bpe.model; FILE: JSON lines of one of five kinds, told apart by their
fields: a text and its ids (two kinds, one of them published for XLM-R), a pair of texts, a list of
words, a context with an answer. Prints `NAME: N of M agree` per file and the first three rows that
disagree; exit 1 on any. It holds no tokenizer code: everything goes through data.py.

Two things agree by design although the ids differ. A text that holds `<s>`, `<mask>` ... is plain
text to us and special tokens to transformers: such rows are counted apart. A word without pieces is
`<unk>` to us, so that it gets a prediction. Offsets must equal sentencepiece's own offset_mapping
and lead to the recorded tokens of the answer; the offsets that transformers' fast tokenizer gives
differ in places (it does not map normalisation back) and are counted only.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import data  # noqa: E402
from files import UserError, read_json_lines  # noqa: E402
from readers import Classification, Sentence, Span, Tagging  # noqa: E402

SPECIAL = ("<s>", "</s>", "<unk>", "<pad>", "<mask>")
WHOLE = 1 << 20                      # a length that cuts nothing


@dataclass(frozen=True)
class Settings:
    """What the featurizers ask of a task."""

    kind: str
    max_length: int = WHOLE
    name: str = "recorded"
    stride: int = 128
    max_question: int = 64


def sequence(tokenizer, example, kind: str, max_length: int = WHOLE) -> list[int]:
    """Ids of an example's only sequence, special tokens included."""
    f = data.featurize(Settings(kind, max_length), [example], tokenizer)
    return data.assemble(f, np.array([0]))[0].tolist()


def check_text(tokenizer, row) -> dict:
    return {"ids": (sequence(tokenizer, Sentence(1, "", row["text"], "query", None), "retrieval"),
                    row["ids"])} | check_offsets(tokenizer, row["text"])


def check_pair(tokenizer, row) -> dict:
    example = Classification(1, row["text_a"], row["text_b"], None)
    return {"ids": (sequence(tokenizer, example, "classification"), row["ids"]),
            "ids cut to 24": (sequence(tokenizer, example, "classification", 24),
                              row["ids_max24_longest_first"])}


def check_words(tokenizer, row) -> dict:
    ids = sequence(tokenizer, Tagging(1, tuple(row["words"]), None), "tagging")
    recorded = [i for word in row["word_ids"] for i in word or [data.UNK]]
    return {"ids": (ids, [data.BOS, *recorded, data.EOS])}


def check_answer(tokenizer, row) -> dict:
    """Ids of the context, and the tokens that cover the answer."""
    example = Span(1, "1", "", row["context"], ((row["answer"], row["answer_start"]),))
    f = data.featurize(Settings("span"), [example], tokenizer)
    context = data.assemble(f, np.array([0]))[0][3:-1].tolist()      # behind <s></s></s>
    encoded = tokenizer.encode([row["context"]], offsets=True)
    fast = [tuple(pair) for pair in row["fast_offsets"]]
    ours = list(zip(encoded.begin.tolist(), encoded.end.tolist()))
    return {"ids": (context, row["ids"]),
            "cover_tokens": ((f.target[0] - 3).tolist(), row["cover_tokens"]),
            "fast offsets": (ours, fast)} | check_offsets(tokenizer, row["context"])


def check_offsets(tokenizer, text: str) -> dict:
    encoded = tokenizer.encode([text], offsets=True)
    own = tokenizer.processor.encode(text, out_type="offset_mapping")["offsets"]
    return {"offsets": (list(zip(encoded.begin.tolist(), encoded.end.tolist())),
                        [tuple(pair) for pair in own])}


CHECKS = {"text": check_text, "text_a": check_pair, "words": check_words, "context": check_answer}


def check_file(tokenizer, path: Path) -> bool:
    """Print one file's result; whether every row agrees."""
    agree = total = special = fast = 0
    shown = []
    for number, row in read_json_lines(path):
        field = next((name for name in CHECKS if name in row), None)
        if field is None:
            print(f"{path.name}:{number}: cannot run a row with the fields {sorted(row)}")
            continue
        total += 1
        pairs = CHECKS[field](tokenizer, row)
        if "fast offsets" in pairs:
            fast += (lambda a, b: a != b)(*pairs.pop("fast offsets"))
        wrong = [name for name, (ours, theirs) in pairs.items() if ours != theirs]
        text = json.dumps(row[field], ensure_ascii=False)
        if wrong == ["ids"] and any(s in text for s in SPECIAL):
            special += 1
        elif wrong:
            shown.append(f"  {path.name}:{number}: {wrong[0]} of {text[:60]}: ours "
                         f"{str(pairs[wrong[0]][0])[:90]}, recorded {str(pairs[wrong[0]][1])[:90]}")
            continue
        agree += 1
    print(f"{path.name}: {agree} of {total} agree"
          + (f" ({special} with special strings are plain text here)" if special else "")
          + (f" ({fast} with other offsets in the fast tokenizer)" if fast else ""))
    print("\n".join(shown[:3]), end="\n" if shown else "")
    return not shown


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__)
        return 2
    try:
        tokenizer = data.Tokenizer(Path(arguments[0]))
        return 0 if all([check_file(tokenizer, Path(name)) for name in arguments[1:]]) else 1
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Compares this project's metrics with recorded outputs of the official scripts.

    python tests/check_oracle.py FILE...

A FILE is JSON: {"meta": {"metric": name}, "cases": [{"id", "input", "output", ...}]}. An output
{"error": ...} says that the official script fails; ours then has to raise UserError. Prints
"NAME: N of M agree", the first three disagreements and what cannot be run here; exits 1 on a
disagreement. All metrics and all parsing are the rooms' own.
"""

import json
import math
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import benchmark  # noqa: E402
import data  # noqa: E402
import files  # noqa: E402
import metrics  # noqa: E402
import readers  # noqa: E402
import search  # noqa: E402
import submission  # noqa: E402
import tagging  # noqa: E402
import tasks  # noqa: E402

VALUES = ("output", "per_question", "normalized")
DEFECTS = {  # (task, what the official script raises) where ours goes on: why
    ("bucc2018", "IndexError"): "the best cut is after the last pair: ours is that pair's score",
    ("udpos", "NetworkXUnfeasible"): "enhanced graphs with cycles end the tool: ours only counts",
    ("udpos", "NetworkXError"): "edges are removed twice there: ours only counts ancestors",
}
NOT_RUN = ("pr",)  # precision-recall areas: evaluate-v2.0.py has them only beside its plots


def run_accuracy(given: dict) -> dict:
    files = given["label_file"], given["prediction_file"]
    return {"output": metrics.accuracy(*map(submission.read_labels, files))}


def run_tagging(given: dict) -> dict:
    files = given["label_file"], given["prediction_file"]
    values = metrics.chunk_f1(*map(submission.read_tags, files))
    del values["accuracy"]  # ours alone: no official script has it
    return {"output": values}


def questions(given: dict) -> tuple[list, list]:
    examples = list(readers.parse_squad(given["gold"], "gold"))
    return examples, submission.parse_answers("span", json.dumps(given["predictions"]), examples)


def run_squad_v1(given: dict) -> dict:
    examples, answers = questions(given)
    found = {"output": metrics.squad_v1(examples, answers), "per_question": {}, "normalized": {}}
    for example, answer in zip(examples, answers):
        if answer is not None:
            exact, f1 = metrics.squad_v1_question(example, answer)
            found["per_question"][example.id] = {"em": exact, "f1": f1}
            found["normalized"][example.id] = {
                "prediction": metrics.normalize(answer),
                "answers": [metrics.normalize(text) for text, _ in example.answers],
            }
    return found


def run_squad_v2(given: dict) -> dict:
    examples, answers = questions(given)
    scores = [metrics.squad_v2_question(*pair) for pair in zip(examples, answers)]
    return {
        "output": metrics.squad_v2(examples, answers, given["na_probs"], given["na_prob_thresh"]),
        "per_question": {
            example.id: {"exact": exact, "f1": f1} for example, (exact, f1) in zip(examples, scores)
        },
    }


def run_tatoeba(given: dict) -> dict:
    queries, candidates = map(np.array, (given["english_embeddings"], given["source_embeddings"]))
    rows = search.nearest(queries, candidates, given["normalize"]).tolist()
    examples = [
        readers.Sentence(row + 1, str(row), "", "candidate", ()) for row in range(len(candidates))
    ] + [
        readers.Sentence(row, str(row), "", "query", (str(gold),))
        for row, gold in enumerate(given["gold"], start=1)
    ]
    answers = [None] * len(candidates) + [str(row) for row in rows]
    written = submission.format_answers("pairs", examples, answers).split()
    output = {
        "predictions": rows,
        "written_lines": [f"[{row}]" for row in written],  # evaluate.py rejects these brackets
        **metrics.retrieval_accuracy(examples, answers),
    }
    return {"output": output}


def run_mlqa(given: dict) -> dict:
    examples, answers = questions(given)
    lang = given["case"]["language"] or "none"
    found = {"output": metrics.mlqa(examples, answers, lang), "per_question": {}, "normalized": {}}

    def normal(text):
        return metrics.normalize_mlqa(text, lang)

    for example, answer in zip(examples, answers):
        if answer is not None:
            exact, f1 = metrics.squad_v1_question(example, answer, normal)
            found["per_question"][example.id] = {"em": exact, "f1": f1}
            found["normalized"][example.id] = {
                "prediction": normal(answer), "answers": [normal(t) for t, _ in example.answers]}
    return found


def run_bucc_f1(given: dict) -> dict:
    files = given["label_file"], given["prediction_file"]
    return {"output": metrics.set_f1(*map(submission.read_pairs, files))}


def run_xcopa(given: dict) -> dict:
    files = given["label_file"], given["prediction_file"]
    return {"output": metrics.accuracy(*map(submission.read_choices, files))}


def run_mewslix(given: dict) -> dict:
    files = given["label_file"], given["prediction_file"]
    return {"output": metrics.mewslix_map20(*(submission.read_rankings(f, "f") for f in files))}


def run_lareqa(given: dict) -> dict:
    if "targets" in given:
        value = metrics.average_precision(given["targets"], given["ranked"], given["k"])
        return {"output": {"ap": value}}
    with tempfile.TemporaryDirectory() as folder:
        for lang, squad in given["squad_per_lang"].items():
            Path(folder, f"{lang}.json").write_text(json.dumps(squad), "utf-8")
        examples = [example for lang in given["squad_per_lang"]
                    for example in readers.read_lareqa([Path(folder, f"{lang}.json")], lang, ())
                    if example]
    vectors = given["encodings"]["questions"] | given["encodings"]["candidates"]
    sides = {side: [e for e in examples if e.side == side] for side in ("query", "candidate")}
    matrix = {side: np.array([vectors[e.id] for e in part]) for side, part in sides.items()}
    scores = matrix["query"] @ matrix["candidate"].T           # the official script: dot products
    ranked = [[sides["candidate"][i].id for i in np.argsort(row)[::-1]] for row in scores]
    values = [metrics.average_precision(query.gold, order, given["k"])
              for query, order in zip(sides["query"], ranked)]
    return {"output": {"mAP@20": sum(values) / len(values), "n_questions": len(values),
                       "n_candidates": len(sides["candidate"])}}


def run_mining(given: dict) -> dict:
    examples = [readers.Sentence(row, name, text, side, ()) for side, ids, texts in (
        ("query", given["src_ids"], given["src_text"]),
        ("candidate", given["trg_ids"], given["trg_text"]))
        for row, (name, text) in enumerate(zip(ids, texts), start=1)]
    found = {}
    if given["src_emb"] is None:
        scores = candidate_file(given, examples)
    else:
        vectors = np.array(given["src_emb"] + given["trg_emb"])
        scores = search.mine_sentences(examples, vectors, center=given["use_shift_embeds"])
        (queries, _), (candidates, _) = (search.different_texts(examples, side)
                                         for side in ("query", "candidate"))
        pairs = search.mine(vectors[queries], vectors[candidates], center=given["use_shift_embeds"])
        found["candidates"] = [[score, examples[queries[a]].text, examples[candidates[b]].text]
                               for score, a, b in pairs]
    found["candidate2score"] = [[*pair, score] for pair, score in scores.items()]
    if given["gold"] is not None:
        golds = {tuple(line.split("\t")) for line in given["gold"]}
        threshold = search.best_threshold(scores, golds)
        found["result"] = {"best-threshold": threshold}
    elif given["threshold"] is None:
        raise files.UserError("neither gold nor a threshold")
    else:
        found["result"], threshold = None, given["threshold"]
    kept = [pair for pair, score in scores.items() if score >= threshold]
    found["predictions"] = ["\t".join(pair) for pair in kept]
    if found["result"] is not None:
        f1 = metrics.set_f1(golds, set(kept) if threshold else set())
        found["result"] |= {"precision": f1["precision"], "recall": f1["recall"], "F1": f1["f1"]}
    return {"output": found}


def candidate_file(given: dict, examples: list) -> dict:
    """What mine_sentences would give for a recorded list of scored pairs of texts."""
    times = Counter((example.side, example.text) for example in examples)
    ids = {(e.side, e.text): e.id for e in examples if times[e.side, e.text] == 1}
    scores = {}
    for line in given["candidates"]:
        score, query, candidate = line.split("\t")
        if {("query", query), ("candidate", candidate)} <= ids.keys():
            pair = ids["query", query], ids["candidate", candidate]
            scores[pair] = max(float(score), scores.get(pair, float(score)))
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def run_aggregate(given: dict) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        for side in ("labels", "predictions"):
            for name, text in given[side].items():
                path = Path(folder, side, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="")
            for name in given["empty_dirs"]:
                Path(folder, side, name).mkdir(parents=True)
        result = benchmark.score_folders(Path(folder, "predictions"), Path(folder, "labels"),
                                         given["xtreme_version"])
    tables = {}
    for name, task in result["tasks"].items():
        names = next(iter(task["languages"].values()))
        tables[name] = {key: {lang: values[key] for lang, values in task["languages"].items()}
                        for key in names}
    return {"output": {"overall": result["overall"], "per_language": tables,
                       "avg": {name: task["avg"] for name, task in result["tasks"].items()}}}


# prep_*: raw files through our readers against XTREME's processed files through our readers. Where
# both give the same, the recorded output itself is returned.


def write_all(folder: str, files: dict[str, str]) -> dict[str, Path]:
    paths = {}
    for name, text in files.items():
        paths[name] = Path(folder, name)
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        paths[name].write_bytes(text.encode("utf-8"))
    return paths


def same(case: dict, ours, official) -> dict:
    return {"output": case["output"] if ours == official else [ours, official]}


def run_prep_udpos(given: dict) -> dict:
    case, lang, labels = given["case"], given["case"]["language"], tasks.UPOS
    with tempfile.TemporaryDirectory() as folder:
        raw = write_all(folder, given["files"])
        read = {}
        for split in ("train", "dev", "test"):
            paths = [raw[name] for name in sorted(raw) if split in name]
            sentences = [s for s in tagging.read_udpos(paths, lang, labels) if s] if paths else []
            if sentences:
                read[f"{split}-{lang}.tsv"] = sentences
        texts = case["output"].get("tsv", {})
        official = {name: list(tagging.read_udpos([path], lang, labels))
                    for name, path in write_all(f"{folder}/out", texts).items()}
    return same(case, without_rows(read), without_rows(official))


def without_rows(files: dict) -> dict:
    """Words and tags; XTREME's test files hold no tags."""
    return {name: [(s.words, None if name.startswith("test") else s.tags) for s in sentences]
            for name, sentences in files.items()}


def run_prep_panx(given: dict, folder: str) -> tuple:
    lang, split = given["file"].split("-")
    ((name, text),) = given["case"]["output"]["files"].items()
    raw = write_all(folder, {f"{lang}/{split}": given["text"]})[f"{lang}/{split}"]
    sentences = [s for s in tagging.read_panx([raw], lang, tasks.IOB2) if s]
    if split == "test":      # an empty token is a blank line there, which cuts the sentence
        words = [word for sentence in sentences for word in sentence.words if word]
        return words, [line for line in text.split("\n") if line]
    official = tagging.read_panx([write_all(folder, {name: text})[name]], lang, tasks.IOB2)
    return [s[1:] for s in sentences], [s[1:] for s in official]


class ToyTokenizer:
    """What the recorded cases were cut with: a piece for every three characters."""

    def encode(self, texts):
        clean = [text.replace("\u200b", "").replace("\u200e", "") for text in texts]
        sizes = np.array([-(-len(text) // 3) for text in clean], np.int64)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        return SimpleNamespace(ids=np.zeros(bounds[-1], np.int32), bounds=bounds)


def run_prep_chunks(given: dict, folder: str) -> tuple:
    """The words of each part of a split sentence; of those without inner blanks."""
    room = given["max_len"] - (3 if given["model_type"] == "xlmr" else 2)
    task = SimpleNamespace(kind="tagging", max_length=room + 2)
    sentences = [[line.split("\t")[0] for line in block.split("\n")]
                 for block in given["text"].strip("\n").split("\n\n")]
    (_, index), = [item for item in given["case"]["output"]["files"].items()
                   if item[0].endswith(".idx")]
    official = [block.split("\n") for block in index.strip("\n").split("\n\n")]
    ours = []
    for number, words in enumerate(sentences):
        example = readers.Tagging(1, tuple(words), None)
        f = data.FEATURIZE["tagging"](task, [example], ToyTokenizer(), (), False)
        starts = np.searchsorted(f.words, f.a[:, 0])
        for count in np.diff(np.append(starts, len(words))).tolist():
            ours.append([str(number)] * count)
    plain = {str(n) for n, words in enumerate(sentences) if not any(" " in word for word in words)}
    return tuple([block for block in blocks if block[0] in plain] for blocks in (ours, official))


def run_prep_tatoeba(given: dict, folder: str) -> tuple:
    raw = write_all(folder, {k: v for k, v in given.items() if k != "case"})
    official = write_all(folder, given["case"]["output"]["files"])
    ours, theirs = (list(readers.read_tatoeba(list(paths.values()), "de", ()))
                    for paths in (raw, official))
    gold = given["case"]["output"]["gold_if_labels_are_original_rows"]
    return (([s.text for s in ours], [int(s.gold[0]) for s in ours if s.side == "query"]),
            ([s.text for s in theirs], gold))


XNLI_COLUMNS = ("language gold_label sentence1_binary_parse sentence2_binary_parse sentence1_parse "
                "sentence2_parse sentence1 sentence2 promptID pairID genre").split()


def run_prep_pairs(given: dict, folder: str) -> tuple:
    """XNLI and PAWS-X: raw and processed rows of every split and language."""
    texts = {name: text.replace("language\tgold_label" + "\th" * 9, "\t".join(XNLI_COLUMNS))
             for name, text in given.items() if name != "case"}
    raw, ours, theirs = write_all(folder, texts), [], []
    labels = tasks.NLI if given["case"]["task"] == "xnli" else ("0", "1")
    for name, path in write_all(f"{folder}/out", given["case"]["output"]["files"]).items():
        split, lang = name.removesuffix(".tsv").split("-")
        source = [key for key in raw if split in Path(key).name
                  and (labels == tasks.NLI or key.startswith(lang + "/"))]
        found = [list(readers.read_pairs([p], lang, labels)) for p in (raw[source[0]], path)]
        for rows, kept in zip(found, (ours, theirs)):
            kept.append([e[1:3] + (() if split == "test" else (e.label,)) for e in rows])
    return ours, theirs


PREP = {"panx": run_prep_panx, "panx_tokenize": run_prep_chunks, "udpos_tokenize": run_prep_chunks,
        "tatoeba": run_prep_tatoeba, "xnli": run_prep_pairs, "pawsx": run_prep_pairs}


def run_prep_other(given: dict) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        return same(given["case"], *PREP[given["case"]["task"]](given, folder))


# metric -> (how to run a case, relative tolerance)
RUNS = {
    "accuracy": (run_accuracy, 1e-9),
    "tagging_f1_panx": (run_tagging, 1e-9),
    "tagging_f1_udpos": (run_tagging, 1e-9),
    "squad_v1": (run_squad_v1, 1e-9),
    "squad_v2": (run_squad_v2, 1e-9),
    "tatoeba_search": (run_tatoeba, 1e-4),
    "mlqa": (run_mlqa, 1e-9),
    "bucc_f1": (run_bucc_f1, 1e-9),
    "xcopa_accuracy": (run_xcopa, 1e-9),
    "mewslix_map20": (run_mewslix, 1e-9),
    "lareqa_map20": (run_lareqa, 1e-9),
    "bucc_mining": (run_mining, 1e-4),
    "aggregate": (run_aggregate, 1e-9),
    "prep_udpos": (run_prep_udpos, 0),
    "prep_other": (run_prep_other, 0),
}


def equal(expected, found, tolerance: float) -> bool:
    match expected:
        case dict():
            return type(found) is dict and expected.keys() == found.keys() and all(
                equal(value, found[key], tolerance) for key, value in expected.items()
            )
        case list():
            return type(found) is list and len(expected) == len(found) and all(
                equal(*pair, tolerance) for pair in zip(expected, found)
            )
        case int() | float():
            return math.isclose(expected, found, rel_tol=tolerance, abs_tol=1e-12)
    return expected == found


def disagreement(case: dict, run, tolerance: float) -> str:
    """What differs between the recorded case and ours; "" when they agree."""
    should_fail = "error" in case["output"]
    try:
        found = run(case["input"] | {"case": case})
    except files.UserError as error:
        return "" if should_fail else f"expected {case['output']}, found the error {error}"
    except Exception as error:  # a crash is a disagreement, and the other cases still count
        return f"crashed: {error!r}"
    if should_fail and (case.get("task"), case["output"]["error"]) in DEFECTS:
        return ""
    if should_fail:
        return f"expected the error {case['output']['error']}, found {found['output']}"
    for key in VALUES:
        if key in case and not equal(case[key], found[key], tolerance):
            return f"{key}: expected {case[key]}, found {found[key]}"
    return ""


def check_file(path: Path) -> list[str]:
    """Prints the comparison of one file and returns its disagreements."""
    record = json.loads(path.read_text(encoding="utf-8"))
    metric, cases = record["meta"]["metric"], record["cases"]
    if metric not in RUNS:
        print(f"{path.name}: {len(cases)} cases not run (no {metric} here yet)")
        return []
    found = [(case["id"], disagreement(case, *RUNS[metric])) for case in cases]
    wrong = [f"{name}: {what}" for name, what in found if what]
    print(f"{path.name}: {len(cases) - len(wrong)} of {len(cases)} agree")
    for line in wrong[:3]:
        print("   ", line[:400])
    for key in NOT_RUN:
        if count := sum(key in case for case in cases):
            print(f"    {key!r} of {count} cases not run")
    return wrong


def main(names: list[str]) -> int:
    if not names:
        print(__doc__)
        return 2
    return int(any([check_file(Path(name)) for name in names]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""One run under attack: what is measured, kept in the run's folder, and what it means in numbers.

    run, language --stand--> Scene --ATTACKS[name]--> Scores --measure.keep--> RUN/attack/*.json
    inputs made against one run --cross--> Scores of the other --measure.keep--> RUN/attack/*.json

An example counts as right if its label is, a question if its answer matches exactly, a tagged
sentence if all its tags are right (of words that were edited none is asked). The values of a file
are 100 for what is right under attack, else 0; its facts hold, example by example, what is right
without attack, and of each search (the attack's own, its random controls) what it fooled, how many
queries it took, what it edited, and the points of the strongest input (of questions F1).
"""

from pathlib import Path
from typing import Callable, Iterator, NamedTuple

import plan
import predict
import readers
import splits
from checkpoints import file_sha256
from compare import is_query
from files import UserError, read_json_lines, read_lines
from studies import flips, measure, perturb, scripts, search_attack, victims
from studies.measure import Scores, Victim
from studies.perturb import Calibration, calibrate
from studies.results import Run
from studies.search_attack import Found, Judged
from studies.victims import Judge

CODE = (search_attack, victims, flips, perturb, scripts)      # which decide what is found
SWAPPED = {                     # what langswap shows in another language
    readers.Classification: "text_b", readers.MultipleChoice: "endings", readers.Span: "question"}
SEARCHES = {                    # the attack's own search first, then its controls
    "chars": ("chars", "random", "random-Q"), "langswap": ("langswap", "random"),
    "hotflip": ("hotflip", "random", "random-Q")}
TRIES = 4                       # random-Q draws so many tries a query, of which it takes new ones
ALIGNED = 0.99                  # least share of equal golds of files that tell of the same items


class Scene(NamedTuple):
    """One run and language, ready to be attacked."""

    victim: Victim
    lang: str
    judge: Judge
    examples: list              # those that count: of retrieval the right candidate of each query
    clean: list[Judged]
    calibration: Calibration
    seed: int
    budget: int


def applies(attack: str, task) -> bool:
    """Whether an attack is defined for a task: langswap for parallel texts; of retrieval only the
    search for the nearest candidate has a J."""
    if attack == "langswap":
        return task.parallel and task.kind in ("classification", "multiple_choice", "span")
    return task.search in ("", "pairs")


def stand(victim: Victim, lang: str, seed: int, budget: int) -> Scene:
    """Loads the model, judges the clean examples. Raises UserError for centred layers."""
    sample, (model, tokenizer) = victim.sample(lang), victim.loaded
    layer = str(victim.run.config["key"]["layer"])
    if layer.endswith("c"):
        raise UserError(f"--layer {layer}: attacks compare states as they are", victim.run.folder)
    judge = Judge(model, victim.head, victim.task, tokenizer, victim.labels, lang,
                  victim.context.hardware, predict.depth_of(layer, model.encoder), victim.poll)
    examples = sample.examples
    if victim.task.kind == "retrieval":
        judge.set_pool(examples)
        candidates = {example.id: example for example in examples if not is_query(example)}
        examples = [candidates[one.gold[0]] for one in examples if is_query(one)]
    calibration = calibrate(sample.whole, victim.task.name, lang,
                            (search_attack.field_of(examples),), side="candidate")
    return Scene(victim, lang, judge, examples, judge(examples), calibration, seed, budget)


# --------------------------------------------------------------------------------- the attacks


def under_chars(scene: Scene) -> Scores:
    normalise = scene.judge.tokenizer.processor.normalize

    def prepare(example):
        target = search_attack.target_of(example, scene.calibration, scene.seed)
        return target, search_attack.char_moves(target, scene.calibration, normalise)

    return search_and_chance(scene, "chars", prepare,
                             lambda target, moves: search_attack.chars(target, moves),
                             lambda target: target.limit)


def under_hotflip(scene: Scene) -> Scores:
    (field,) = scene.calibration.counts
    whole = [text for example in scene.victim.sample(scene.lang).whole
             if perturb.is_noised(example, scene.calibration.side)
             for _, text, _ in perturb.texts_of(example, field)]
    embeddings = scene.judge.model.encoder.tokens.weight.detach().float().cpu().numpy()
    table = flips.make_table(whole, scene.judge.tokenizer, embeddings)
    from_end = scene.victim.task.kind == "multiple_choice"

    def prepare(example):
        target = search_attack.target_of(example, scene.calibration, scene.seed)
        return target, flips.flip_moves(target, table)

    return search_and_chance(scene, "hotflip", prepare,
                             lambda target, moves: flips.hotflip(target, table, from_end),
                             lambda target: flips.most_flips(target, table))


def search_and_chance(scene: Scene, name: str, prepare: Callable, search: Callable,
                      limit: Callable) -> Scores:
    """An attack and both its controls. prepare: example -> (target, moves); search: of those;
    limit: target -> most edits."""
    known = {}

    def prepared(example):
        if example not in known:
            known[example] = prepare(example)
        return known[example]

    def chance(count: Callable, tries: int):
        def make(example):
            target, moves = prepared(example)
            return search_attack.random_tries(target, moves, count(target), tries)
        return make

    def run(make: Callable, budget: int) -> list[Found | None]:
        return search_attack.attack(scene.judge, scene.examples, scene.clean, make, budget)

    found = run(lambda example: search(*prepared(example)), scene.budget)
    edits = {one.clean: max(1, len(one.edits)) for one in found if one}
    once = run(chance(lambda target: edits[target.example], 1), 2)
    best = run(chance(limit, TRIES * scene.budget), scene.budget)
    return scores(scene, dict(zip(SEARCHES[name], (found, once, best))))


def under_langswap(scene: Scene) -> Scores:
    """Raises UserError where the files do not tell of the same items."""
    translated = list(translations(scene.victim, scene.lang))
    variants = [[one[place] for one in translated if one[place] is not None]
                for place in range(len(scene.examples))]
    swapped = search_attack.langswap(scene.judge, scene.examples, scene.clean, variants, scene.seed)
    found = scores(scene, dict(zip(SEARCHES["langswap"], (swapped.found, swapped.drawn))))
    return Scores(found.values, found.facts | {"generalized": swapped.generalized,
                                               "languages": len(translated)})


ATTACKS = {"chars": under_chars, "langswap": under_langswap, "hotflip": under_hotflip}


def scores(scene: Scene, found: dict[str, list[Found | None]]) -> Scores:
    """The values of the first search; all that is known of all of them as facts."""
    own = next(iter(found.values()))
    right = [not any(one.wrong) for one in scene.clean]
    values = [100.0 * (is_right and not one.fooled) for is_right, one in zip(right, own)]
    facts = {"right": right, "points": [one.score for one in scene.clean],
             "searches": {name: told(listed, scene.clean) for name, listed in found.items()},
             "inputs": {str(i): list(changes(one).items()) for i, one in enumerate(own)
                        if one and one.strongest != one.clean}}
    return Scores(values, facts)


def told(found: list[Found | None], clean: list[Judged]) -> dict[str, list]:
    """JSON of a search's outcomes; None stands for examples that were not attacked."""
    return {
        "fooled": [one and one.fooled for one in found],
        "queries": [one and one.queries for one in found],
        "ran_out": [one and one.ran_out for one in found],
        "words": [one and len(one.edits) for one in found],
        "clusters": [one and sum(map(clusters, one.edits, [one] * len(one.edits)))
                     for one in found],
        "points": [one.judged.score if one else before.score for one, before in zip(found, clean)]}


def clusters(edit: scripts.Edit, one: Found) -> int:
    """How many clusters an edit takes out or writes, whichever are more."""
    text = next(text for _, text, _ in perturb.texts_of(
        one.clean, search_attack.field_of([one.clean])))
    return max(sum(len(word.bounds) - 1 for word in scripts.words(part))
               for part in (text[edit.start:edit.end], edit.text))


def changes(one: Found) -> dict:
    """The fields in which the strongest input differs from the clean example."""
    return {name: value for name, value in one.strongest._asdict().items()
            if value != getattr(one.clean, name)}


def inputs(examples: list, facts: dict) -> list:
    """The strongest inputs that `scores` kept, the clean example where there is none."""
    found = list(examples)
    for place, fields in facts["inputs"].items():
        values = {name: tuple(value) if isinstance(value, list) else value
                  for name, value in fields}
        found[int(place)] = found[int(place)]._replace(**values)
    return found


# -------------------------------------------------------------------------------- translations


def translations(victim: Victim, lang: str) -> Iterator[list]:
    """Of each other language: the examples of `lang` with one text in it, None where the item is
    not there. Raises UserError for files whose golds say that they tell of other items."""
    sample = victim.sample(lang)
    field = SWAPPED[type(sample.whole[0])]
    names = dict(zip(map(id, sample.whole), item_names(victim, lang)))
    for other in victim.languages:
        if other == lang:
            continue
        partners = dict(zip(item_names(victim, other), victim.sample(other).whole))
        pairs = [(example, partners.get(names[id(example)])) for example in sample.examples]
        common = [(one, two) for one, two in pairs if two is not None]
        if field != "question":             # answers of questions are in other languages
            alike = [one.label == two.label for one, two in common]
            if sum(alike) < ALIGNED * len(alike):
                raise UserError(f"{victim.task.name}: {lang} and {other} do not tell of the same "
                                f"items ({sum(alike)} of {len(alike)} golds agree)")
        yield [two and one._replace(**{field: getattr(two, field)}) for one, two in pairs]


def item_names(victim: Victim, lang: str) -> list[str]:
    """What each example of a language's file is called in all languages: its id, the column `id` of
    a TSV file (PAWS-X, whose files are not equally long), `idx` of JSON lines (XCOPA), else its
    place."""
    examples = victim.sample(lang).whole
    if hasattr(examples[0], "id"):
        return [example.id for example in examples]
    paths = splits.find(victim.task, Path(victim.run.config["paths"]["data"]), victim.split, lang)
    known = column_of_names(paths[0]) if len(paths) == 1 else {}
    return [known.get(example.row, str(place)) for place, example in enumerate(examples)]


def column_of_names(path: Path) -> dict[int, str]:
    """Row -> name, {} where the file names no items."""
    if path.suffix == ".jsonl":
        return {row: str(record["idx"]) for row, record in read_json_lines(path)
                if "idx" in record}
    lines = [(row, line.split("\t")) for row, line in read_lines(path)]
    header = lines[0][1] if lines else []
    if "id" not in header:
        return {}
    place = header.index("id")
    return {row: fields[place] for row, fields in lines[1:] if len(fields) > place}


# ------------------------------------------------------------------------------- kept in folders


class Plan(NamedTuple):
    """What a command asks of every run."""

    attacks: list[str]
    items: int                  # examples a language, 0: all
    seed: int
    budget: int
    kept_as: str

    def deciders(self) -> tuple:
        return self.items, self.seed, self.budget, code_digest()


def code_digest() -> str:
    return plan.digest([file_sha256(Path(room.__file__)) for room in CODE])


def assail(victim: Victim, asked: Plan, languages: list[str]) -> None:
    """Keep every attack on a run in these languages."""
    for attack in asked.attacks:
        for lang in languages if applies(attack, victim.task) else ():
            measure.keep(victim.run, asked.kept_as, f"{attack}-{lang}", asked.deciders(),
                         lambda: {lang: attempt(attack, victim, lang, asked)})


def attempt(attack: str, victim: Victim, lang: str, asked: Plan) -> Scores:
    """Scores, without values where the attack is n/a for these files: facts["off"] says why."""
    if attack == "langswap":
        try:
            list(translations(victim, lang))
        except UserError as problem:
            return Scores([], {"off": problem.what})
    return ATTACKS[attack](stand(victim, lang, asked.seed, asked.budget))


def read(run: Run, asked: Plan, attack: str, languages: list[str]) -> dict[str, Scores]:
    """What is kept of an attack; languages in which it is n/a or missing are left out."""
    found = [measure.kept(run, asked.kept_as, f"{attack}-{lang}", asked.deciders())
             for lang in languages]
    return {lang: one for several in found if several for lang, one in several.items()
            if one.values}


def cross(victim: Victim, other: Run, asked: Plan, languages: list[str]) -> None:
    """Keep how the victim answers the inputs that were made against another run."""
    for attack in asked.attacks:
        for lang, theirs in read(other, asked, attack, languages).items():
            measure.keep(victim.run, asked.kept_as, *crossed_name(attack, lang, other, asked),
                         lambda: {lang: crossed(victim, lang, theirs.facts, asked)})


def crossed_name(attack: str, lang: str, other: Run, asked: Plan) -> tuple[str, tuple]:
    """The condition's name and its deciders."""
    origin = plan.digest(other.config["key"], other.digest)
    return f"{attack}-{lang}-from-{origin[:12]}", (*asked.deciders(), origin)


def crossed(victim: Victim, lang: str, facts: dict, asked: Plan) -> Scores:
    scene = stand(victim, lang, asked.seed, asked.budget)
    right = search_attack.transfer(scene.judge, scene.examples, scene.clean,
                                   inputs(scene.examples, facts))
    return Scores([100.0 * one for one in right], {})


def read_crossed(run: Run, other: Run, asked: Plan, attack: str,
                 languages: list[str]) -> dict[str, Scores]:
    """What is kept of a run's answers to the inputs against another."""
    found = [measure.kept(run, asked.kept_as, *crossed_name(attack, lang, other, asked))
             for lang in languages]
    return {lang: one for several in found if several for lang, one in several.items()}

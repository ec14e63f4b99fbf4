"""Questions that a translation got wrong: a parallel data set asks the same of an item everywhere.

    {language: examples} --consensus--> {row: question} --wrong--> {language: rows}
                                                        --corrected--> examples

XCOPA's files of 2021 ask another question ("cause" or "effect") than most languages do in 250 of
500 Thai test items, 51 Turkish, 37 Swahili, 4 Indonesian and 4 Italian ones; premises, choices and
labels are right. Who scores them as shipped asks the wrong question there. Nothing is corrected
silently: both scores are told.
"""

from collections import Counter

from studies.perturb import TEMPLATE


def asked(example) -> str:
    """The question that a reader put behind the premise, "" where there is none."""
    found = TEMPLATE.search(example.context)
    return found[0] if found else ""


def consensus(by_language: dict[str, list]) -> dict[int, str]:
    """{row: what more than half of the languages ask there}. {} for fewer than three languages, and
    where rows or known labels differ between them: then rows are not the same items."""
    rows = {tuple(e.row for e in examples) for examples in by_language.values()}
    if len(by_language) < 3 or len(rows) > 1:
        return {}
    majority = {}
    for examples in zip(*by_language.values()):
        if len({e.label for e in examples} - {None}) > 1:
            return {}
        question, votes = Counter(map(asked, examples)).most_common(1)[0]
        if question and 2 * votes > len(examples):
            majority[examples[0].row] = question
    return majority


def wrong(by_language: dict[str, list]) -> dict[str, list[int]]:
    """{language: rows where it asks another question than the consensus}, of those with some."""
    majority = consensus(by_language)
    found = {lang: [e.row for e in examples if asked(e) != majority.get(e.row, asked(e))]
             for lang, examples in by_language.items()}
    return {lang: rows for lang, rows in found.items() if rows}


def corrected(examples: list, majority: dict[int, str]) -> list:
    """The examples with the question of the consensus."""
    return [example._replace(context=example.context.removesuffix(asked(example))
                             + majority.get(example.row, asked(example)))
            for example in examples]

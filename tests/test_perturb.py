"""Noise: units by script, decisions that are hashes, labels that survive.

    pytest tests/test_perturb.py
"""

import hashlib
import math
import os
import random
import subprocess
import sys
import unicodedata

import pytest

import readers
import splits
import tasks
from conftest import ROOT
from files import UserError
from readers import Classification, Document, MultipleChoice, Sentence, Span, Tagging
from studies import perturb as noise
from studies.perturb import FUNCTIONS, RATES, Edit, calibrate, perturb
from studies.scripts import Unigrams, bare, change_case, editable, words

# The first article of the Universal Declaration of Human Rights; invented words in the last two.
ARTICLE = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with "
          "reason and conscience and should act towards one another in a spirit of brotherhood.",
    "vi": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "el": "'Ολοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "ar": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "ka": "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "bn": "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "pa": "ਸਾਰਾ ਮਨੁੱਖੀ ਪਰਿਵਾਰ ਆਪਣੀ ਮਹਿਮਾ, ਸ਼ਾਨ ਅਤੇ ਹੱਕਾਂ ਦੇ ਪੱਖੋਂ ਜਨਮ ਤੋਂ ਹੀ ਆਜ਼ਾਦ ਹੈ।",
    "gu": "પ્રતિષ્ઠા અને અધિકારોની દૃષ્ટિએ સર્વ માનવો જન્મથી સ્વતંત્ર અને સમાન હોય છે.",
    "ta": "மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.",
    "te": "ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులును సమానులును నగుదురు.",
    "ml": "മനുഷ്യരെല്ലാവരും തുല്യാവകാശങ്ങളോടും അന്തസ്സോടും "
          "സ്വാതന്ത്ര്യത്തോടുംകൂടി ജനിച്ചിട്ടുള്ളവരാണ്.",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "zh": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心。",
    "ja": "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "my": "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခါဖြင့် လည်းကောင်း မွေးဖွားလာသူများ ဖြစ်သည်။",
    "hy": "թեփե նինե ռանի թալեափ սըլ գիսեիդ բելատ ",
    "zgh": "ⵏⵓⵏⴰⵣⵉ ⴱⵉⵏⵉ ⴽⴻⵎⴰⵎ ⵣⴻⵎⴻ ⵜⵓⵙ ⴰⵣⵓⵍⴼⵍ",
}


def documents(lang: str, count: int) -> list:
    """The article as so many examples, each with its own draws."""
    return [Document(row, ARTICLE[lang]) for row in range(1, count + 1)]


def clusters(text: str) -> list[str]:
    return [" ".join(text[a:b] for a, b in zip(word.bounds, word.bounds[1:]))
            for word in words(text)]


# ------------------------------------------------------------------------------------- units


@pytest.mark.parametrize("text, expected", [
    ("It's 3rd, naïve e\u0301te\u0301", ["I t", "s", "r d", "n a ï v e", "e\u0301 t e\u0301"]),
    ("क्षत्रिय हिन्दी", ["क्ष त्रि य", "हि न्दी"]),
    ("क्\u200dष क्\u200cष", ["क्\u200dष", "क्\u200c ष"]),     # ZWJ keeps the stack, ZWNJ ends it
    ("தமிழ்நாடு", ["த மி ழ் நா டு"]),                          # pulli is seen: nothing joins
    ("ਪ੍ਰਧਾਨ", ["ਪ੍ਰ ਧਾ ਨ"]),
    ("เที่ยวไทย โต๊ะ", ["เที่ ย ว ไท ย", "โต๊ ะ"]),
    ("မြန်မာ ကမ္ဘာ အင်္ဂလိပ်", ["မြ န် မာ", "က မ္ဘာ", "အ င်္ဂ လိ ပ်"]),
    ("می\u200cخواهم", ["م ی\u200c خ و ا ه م"]),
    ("한국어 \u1112\u1161\u11ab\u1100\u116e", ["한 국 어", "\u1112\u1161\u11ab \u1100\u116e"]),
    ("東京Tシャツ", ["東 京", "T", "シ ャ ツ"]),                  # kinds of scripts do not mix
    ("がくせい か\u3099", ["が く せ い", "か\u3099"]),
    ("\u0301abc ᚠᚢ ٣٤ १२", ["a b c"]),                         # no base, unknown script, digits
])
def test_clusters_and_words(text, expected):
    assert clusters(text) == expected


@pytest.mark.parametrize("text, inside", [
    ("no", []), ("not", [1]), ("ნაცნობი", [1, 2, 3, 4, 5]), ("न", []), ("हिन्दी", [1]),
    ("한국어", [1, 2]), ("不", []), ("不是", [0, 1]),
])
def test_editable_clusters(text, inside):
    (word,) = words(text)
    assert list(editable(word)) == inside
    assert list(editable(word, single=True)) == (inside or ([0] if text == "不" else []))


@pytest.mark.parametrize("lang, word, expected", [
    ("vi", "đường", "duong"), ("pl", "ŁÓDŹ", "LODZ"), ("yo", "ẹ\u0301kọ", "eko"),
    ("tr", "ılık", "ilik"), ("el", "ἀλήθεια", "αληθεια"), ("ru", "ёлкой", "елкой"),
    ("uk", "їжак", "їжак"), ("ar", "أسئلةٌ", "اسيله"), ("fa", "مسئول", "مسیول"),
    ("he", "שָׁלוֹם", "שלום"),
    ("hi", "ज़मीन", "जमीन"), ("bn", "শাড়ি", "শাডি"), ("ja", "がぎ", "がぎ"), ("ta", "நாடு", "நாடு"),
])
def test_words_without_marks(lang, word, expected):
    assert bare(unicodedata.normalize("NFC", word), lang) == unicodedata.normalize("NFC", expected)


@pytest.mark.parametrize("lang, word, lower, upper", [
    ("en", "Rights", "rights", "RIGHTS"), ("de", "Straße", "straße", "Straße"),
    ("tr", "Işık", "ışık", "IŞIK"), ("tr", "İzmir", "izmir", "İZMİR"),
    ("en", "İzmir", "İzmir", "İZMIR"),
    ("el", "Λόγος", "λόγος", "ΛΌΓΟΣ"), ("ka", "ქართ", "ქართ", "ქართ"), ("hi", "जन", "जन", "जन"),
])
def test_case_maps_one_letter_to_one(lang, word, lower, upper):
    assert change_case(word, lang, upper=False) == lower
    assert change_case(word, lang, upper=True) == upper


def test_sub_draws_by_frequency_and_never_the_same_cluster():
    table = Unigrams({"a": 3, "b": 2, "c": 5, "д": 1})
    for cluster, others in (("b", "aaaccccc"), ("a", "bbccccc"), ("x", "aaabbccccc")):
        drawn = [table.other(cluster, i * 2**64 // len(others) + 1) for i in range(len(others))]
        assert drawn == list(others)
    assert table.other("c", 2**64 - 1) == "b"
    assert table.other("д", 5) is None and table.other("ა", 5) is None


# ------------------------------------------------------------------------- how much, and which


@pytest.mark.parametrize("lang", ARTICLE)
def test_realised_rate_and_nesting_in_every_script(lang):
    """At severity 5 within 5 % and three standard errors; edits of a severity are in the next."""
    examples = documents(lang, 40)
    calibration = calibrate(examples, "any", lang)
    for function in FUNCTIONS[:-1]:
        runs = [perturb(examples, calibration, function, v, 13) for v in range(1, 6)]
        if runs[0] is None:
            assert set(runs) == {None}
            continue
        hits = sum(len(found["text"]) for found in runs[-1].edits if found)
        assert abs(runs[-1].rate / RATES[5] - 1) <= 3 / math.sqrt(hits) + 0.05, function
        for weak, strong in zip(runs, runs[1:]):
            for one, other in zip(weak.edits, strong.edits):
                assert set(one.get("text", ())) <= set(other.get("text", ())), function
        assert [run.rate for run in runs] == sorted(run.rate for run in runs)


def test_swaps_that_clash_are_made_up_for():
    examples = documents("en", 300)
    run = perturb(examples, calibrate(examples, "any", "en"), "swap", 5, 13)
    assert abs(run.rate / RATES[5] - 1) <= 0.07         # 0.15 too few if each only had its share


def test_what_applies_where():
    """n/a is None: no zero drop."""
    without = {
        "en": {"marks"}, "ru": {"marks"}, "vi": set(), "ar": {"case"}, "he": {"marks", "case"},
        "ka": {"marks", "case"}, "te": {"marks", "case"}, "ko": {"marks", "case"},
        "zh": {"marks", "case"}, "th": {"marks", "case"}, "my": {"marks", "case"}}
    for lang, expected in without.items():
        calibration = calibrate(documents(lang, 1), "any", lang)
        found = {f for f in FUNCTIONS if perturb(documents(lang, 1), calibration, f, 5, 1) is None}
        assert found == expected | {"natural"}, lang


@pytest.mark.parametrize("marked, applies", [(2, True), (1, False)])
def test_a_function_applies_from_a_twentieth_of_the_letters_on(marked, applies):
    """A word counts for five of 200."""
    text = " ".join(marked * ["caféx"] + (40 - marked) * ["latex"])
    calibration = calibrate([Document(1, text)], "any", "en")
    assert (perturb([Document(1, text)], calibration, "marks", 5, 13) is not None) == applies


def number(key: bytes, block: int, place: int) -> int:
    digest = hashlib.blake2b(key + block.to_bytes(8, "big")).digest()
    return int.from_bytes(digest[8 * place:8 * place + 8], "big")


def test_numbers_are_the_documented_digests():
    example = Document(7, "the quick brown foxes jump over lazy dogs")
    calibration = calibrate([example], "weather", "en")
    key = repr((13, "weather", "en", 7, "text", "dup")).encode()
    letters = sum(len(word.bounds) - 1 for word in words(example.text))
    inside = [word.bounds[i] for word in words(example.text) for i in editable(word)]
    for severity in range(6):
        q, expected = min(1, RATES[severity] * letters / len(inside)), []
        for offset in inside:
            if number(key, offset // 8, offset % 8) / 2**64 < q:
                expected.append(Edit(offset, offset + 1, 2 * example.text[offset]))
        found = perturb([example], calibration, "dup", severity, 13).edits[0]
        assert list(found.get("text", ())) == expected
    for edit in perturb([example], calibration, "sub", 5, 13).edits[0]["text"]:
        drawn = number(key.replace(b"dup", b"sub"), 2**63 + 2 * edit.start, 0)
        assert edit.text == calibration.tools.unigrams.other(example.text[edit.start], drawn)


@pytest.mark.parametrize("lang", ["en", "th", "hi"])
def test_order_and_batches_do_not_matter(lang):
    examples = documents(lang, 8)
    calibration = calibrate(examples, "any", lang)
    for function in FUNCTIONS[:-1]:
        together = perturb(examples, calibration, function, 4, 17)
        alone = [perturb([example], calibration, function, 4, 17) for example in examples[::-1]]
        if together is not None:
            assert [run.examples[0] for run in alone][::-1] == together.examples
            assert [run.edits[0] for run in alone][::-1] == together.edits


def test_processes_do_not_matter():
    code = f"""if True:
        from readers import Document
        from studies.perturb import FUNCTIONS, calibrate, perturb
        for lang, text in {ARTICLE}.items():
            examples = [Document(row, text) for row in range(3)]
            calibration = calibrate(examples, "any", lang)
            print([perturb(examples, calibration, f, 5, 13) for f in FUNCTIONS])"""
    outs = [subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True,
                           env=os.environ | {"PYTHONHASHSEED": seed}).stdout for seed in "12"]
    assert outs[0] == outs[1] and len(outs[0]) > 10_000


def test_seed_task_language_row_field_and_function_all_count():
    text = ARTICLE["en"]
    example = Classification(1, text, text, "x")
    calibration = calibrate([example], "any", "en")
    base = perturb([example], calibration, "drop", 5, 13).edits[0]
    assert base["text_a"] != base["text_b"]
    others = [perturb([example], calibration, "drop", 5, 17),
              perturb([example._replace(row=2)], calibration, "drop", 5, 13),
              perturb([example], calibration._replace(task="other"), "drop", 5, 13),
              perturb([example], calibration._replace(lang="de"), "drop", 5, 13)]
    assert all(run.edits[0]["text_a"] != base["text_a"] for run in others)
    dup = perturb([example], calibration, "dup", 5, 13).edits[0]
    assert [e.start for e in dup["text_a"]] != [e.start for e in base["text_a"]]


@pytest.mark.parametrize("lang", ARTICLE)
def test_edits_stay_within_words(lang):
    """What is no letter stays as it is (space apart), and so do short words; edit lists say all."""
    text = f"{ARTICLE[lang]} 12 a1 no, (x) 2024!"
    examples = [Document(row, text) for row in range(1, 6)]
    calibration = calibrate(examples, "any", lang)
    protected = [(word.bounds[0], word.bounds[-1]) for word in words(text)
                 if not editable(word, single=True)]
    for function in FUNCTIONS[:-1]:
        run = perturb(examples, calibration, function, 5, 13)
        for example, found in zip(run.examples if run else (), run.edits if run else ()):
            edits = found.get("text", ())
            assert noise.apply(text, edits) == example.text
            assert all(a.end <= b.start for a, b in zip(edits, edits[1:]))
            assert all(e.end <= start or end <= e.start for e in edits for start, end in protected)
            for edit in edits:
                inside = any(word.bounds[0] <= edit.start and edit.end <= word.bounds[-1]
                             for word in words(text))
                assert inside or text[edit.start:edit.end] == " " and function in ("space", "mix")


def test_case_turns_to_upper_only_what_high_severities_add():
    examples = documents("en", 200)
    calibration = calibrate(examples, "any", "en")
    low, high = (perturb(examples, calibration, "case", v, 13) for v in (3, 5))
    assert all(e.text.islower() for found in low.edits for e in found.get("text", ()))
    added = [e for one, other in zip(low.edits, high.edits)
             for e in set(other.get("text", ())) - set(one.get("text", ()))]
    assert added and all(e.text.isupper() for e in added)


def test_share_that_the_tokenizer_still_sees():
    examples = documents("en", 20)
    calibration = calibrate(examples, "any", "en")
    run = perturb(examples, calibration, "drop", 5, 13)
    blind = perturb(examples, calibration, "drop", 5, 13, normalise=lambda text: "")
    assert (run.changed, run.visible, blind.visible) == (1, 1, 0)
    clean = perturb(examples, calibration, "drop", 0, 13)
    assert clean.examples == examples and (clean.rate, clean.changed) == (0, 0)


def test_unknown_noise_is_the_users_error():
    calibration = calibrate(documents("en", 1), "any", "en")
    for function, severity in (("shuffle", 1), ("drop", 6)):
        with pytest.raises(UserError, match="no noise"):
            perturb(documents("en", 1), calibration, function, severity, 1)
    with pytest.raises(UserError, match="no examples"):
        calibrate([], "any", "en")


# ----------------------------------------------------------------------------- labels survive


def test_each_tagged_word_is_noised_alone():
    rows = ["naïve Straße क्षत्रिय x 12 , ABC", "人 人 民 。 東京 T", "\u0301lone a\u0301b\u0301c of", ""]
    strange = [Tagging(row, tuple(text.split(" ")), tuple("T" * len(text.split(" "))))
               for row, text in enumerate(40 * rows, 1)]
    toy = splits.load(tasks.get("udpos"), ROOT / "toy/data", "test", "toy-stack").examples[:60]
    for examples in (strange, toy):
        calibration = calibrate(examples, "any", "de")
        for function in FUNCTIONS:
            run = perturb(examples, calibration, function, 5, 13)
            assert (run is None) == (function in ("space", "natural")
                                     or function in ("marks", "case") and examples is toy)
            for clean, noisy in zip(examples, run.examples if run else ()):
                assert noisy.tags == clean.tags and noisy.row == clean.row
                assert len(noisy.words) == len(clean.words)
                for old, new in zip(clean.words, noisy.words):
                    assert bool(old) == bool(new) and new.split() == ([new] if new else [])
                edits = run.edits[clean.row - 1] if examples is strange else {}
                if edits:
                    joined = noise.apply(" ".join(clean.words), edits["words"])
                    assert joined == " ".join(noisy.words)


def test_one_character_tokens_have_only_sub_and_dup():
    examples = [Tagging(row, tuple("人人生而自由平等"), ("O",) * 8) for row in range(1, 30)]
    calibration = calibrate(examples, "any", "zh")
    applied = [function for function in FUNCTIONS if perturb(examples, calibration, function, 5, 1)]
    assert applied == ["dup", "sub", "mix"]


def test_choices_never_become_equal():
    """Few letters to draw from: without the guard some pairs would collapse."""
    pair = ("xacy", "xbcy")
    examples = [MultipleChoice(row, "what is it", pair, 1) for row in range(1, 400)]
    calibration = calibrate(examples, "any", "en", fields=("endings",))
    run = perturb(examples, calibration, "sub", 5, 13)
    assert all(len(set(example.endings)) == 2 and example.label == 1 for example in run.examples)
    alone = [perturb([example._replace(endings=(text, "other"))], calibration, "sub", 5, 13)
             for example in examples for text in pair[:1]]
    changed = sum(one.examples[0].endings[0] != pair[0] for one in alone)
    kept = sum(example.endings[0] != pair[0] for example in run.examples)
    assert 0 < kept < changed


def test_the_question_that_copas_reader_adds_is_left_alone():
    example = readers._copa(1, {"premise": ARTICLE["en"], "question": "cause", "label": 0,
                                "choice1": "Men wrote it.", "choice2": "It was written."})
    tail = " What was the cause?"
    assert example.context == ARTICLE["en"] + tail
    examples = [example._replace(row=row) for row in range(1, 40)]
    calibration = calibrate(examples, "any", "en")
    run = perturb(examples, calibration, "mix", 5, 13)
    assert all(noisy.context.endswith(tail) for noisy in run.examples)
    assert all(noisy.context != example.context for noisy in run.examples)


def test_a_question_is_noised_by_default_and_a_context_once_for_all_its_questions():
    examples = splits.load(tasks.get("squad"), ROOT / "toy/data", "dev", "toy-en").examples[:40]
    calibration = calibrate(examples, "any", "toy-en")
    run = perturb(examples, calibration, "drop", 5, 13)
    assert all(a.context == b.context and a.answers == b.answers
               for a, b in zip(examples, run.examples)) and run.changed > 0.5
    calibration = calibrate(examples, "any", "toy-en", fields=("context",))
    run, noisy = perturb(examples, calibration, "space", 5, 13), {}
    for clean, other, found in zip(examples, run.examples, run.edits):
        assert other.question == clean.question and other.id == clean.id
        assert noisy.setdefault(clean.context, other.context) == other.context
        for (text, start), (moved, place) in zip(clean.answers, other.answers):
            assert other.context.startswith(moved, place)
            begin, end = noise.to_clean(clean.context, found["context"], place, place + len(moved))
            assert begin <= start and start + len(text) <= end
    assert len(noisy) < len(examples)
    assert perturb(examples[-1:], calibration, "space", 5, 13).examples == run.examples[-1:]
    best = noise.best_answers(examples, run.edits)
    assert all(any(answer == text for text, _ in example.answers)
               for answer, example in zip(best, examples))


def test_offsets_move_as_the_letters_do():
    """Against a brute-force alignment of random edits: a clean offset belongs to the noisy text of
    the edit that covers it, else to its own copy."""
    draw = random.Random(0)
    for _ in range(400):
        clean, edits, place = "".join(draw.choices("abcdef", k=30)), [], 0
        while (place := place + draw.randrange(1, 6)) < 27:
            end = place + draw.randrange(0, 3)
            edits.append(Edit(place, end, draw.choice(["", "X", "YY"]) if end > place else " "))
            place = end + (end == place)
        noisy = noise.apply(clean, edits)
        origin = []                                   # the clean [start, end) of each noisy letter
        for start, end, text in [*edits, Edit(30, 30, "")]:
            begin = max([e.end for e in edits if e.start < start], default=0)
            origin += [(i, i + 1) for i in range(begin, start)] + [(start, end)] * len(text)
        assert len(origin) == len(noisy)
        for start in range(0, 29, 3):
            for end in range(start + 1, 30, 4):
                first, last = noise.to_noisy(edits, start, end)
                touched = [i for i, (a, b) in enumerate(origin)
                           if max(a, start) < min(b, end) or start < a == b < end]
                assert [*range(first, last)] == touched
                a, b = noise.to_clean(clean, edits, first, last)
                assert a <= start and end <= b
                crossed = [e for e in edits if e.start <= end and e.end >= start]
                assert (a, b) == (start, end) or crossed
                assert noise.restore(clean, edits, first, last) == (
                    clean[a:b] if touched else "")


def test_a_blank_deleted_beside_an_answer_stays_outside():
    clean = "in the old town"
    edits = (Edit(2, 3, ""), Edit(6, 7, ""))
    assert noise.to_noisy(edits, 3, 6) == (2, 5)
    assert noise.to_clean(clean, edits, 2, 5) == (3, 6)
    letters = (Edit(1, 2, ""), Edit(6, 7, ""))
    assert noise.to_clean("abcdefgh", letters, *noise.to_noisy(letters, 2, 6)) == (1, 7)


def test_retrieval_noises_one_side_and_keeps_ids():
    examples = [Sentence(row, f"s{row % 4}", ARTICLE["en"], side, ("x",))
                for row, side in enumerate(["query", "candidate"] * 7)]
    for side in ("query", "candidate"):
        calibration = calibrate(examples, "any", "en", side=side)
        run = perturb(examples, calibration, "sub", 5, 13)
        assert run.changed == 1
        for clean, noisy in zip(examples, run.examples):
            assert noisy._replace(text="") == clean._replace(text="")
            assert (noisy.text != clean.text) == (clean.side == side)
        texts = {}                                    # the same id: the same noise
        for noisy in run.examples:
            assert texts.setdefault((noisy.id, noisy.side), noisy.text) == noisy.text
        assert len(set(texts.values())) == 3          # two ids of one side, clean on the other


def test_natural_errors_come_from_the_users_file(tmp_path):
    path = tmp_path / "en.natural"
    path.write_text("human humen hunam\nright rihgt\nRights Rigths\nof off\nborn born\n")
    errors = noise.read_errors(path)
    assert errors["human"] == ("humen", "hunam")
    examples = [Tagging(row, tuple("All Human beings born of rights Right".split()), None)
                for row in range(1, 100)]
    calibration = calibrate(examples, "any", "en", errors=errors)
    run = perturb(examples, calibration, "natural", 5, 13)
    seen = [set(column) for column in zip(*(example.words for example in run.examples))]
    assert seen == [{"All"}, {"Human", "Humen", "Hunam"}, {"beings"}, {"born"}, {"of"}, {"rights"},
                    {"Right", "Rihgt"}]
    path.write_text("human humen\nright\n")
    with pytest.raises(UserError, match="en.natural:2: expected a word and its misspellings"):
        noise.read_errors(path)


@pytest.mark.parametrize("lang, least", [("ar", 99.5), ("zh", 97.5)])
def test_round_trip_on_xquad(shared, lang, least):
    """Chinese has no blanks: what is deleted beside an answer cannot be told from its own."""
    examples = splits.load(tasks.get("xquad"), shared / "data", "test", lang).examples
    calibration = calibrate(examples, "xquad", lang, fields=("context",))
    run, exact = perturb(examples, calibration, "drop", 5, 17), 0
    for example, found in zip(examples, run.edits):
        (text, start), edits = example.answers[0], found.get("context", ())
        back = noise.to_clean(example.context, edits,
                              *noise.to_noisy(edits, start, start + len(text)))
        assert back[0] <= start and start + len(text) <= back[1]
        exact += back == (start, start + len(text))
    assert 100 * exact / len(examples) >= least

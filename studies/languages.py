"""What is known of the languages: family, script, word order, amount of text.

    code, world --of--> Language --group, joshi_group--> "low", ...

The table covers the 50 languages of XTREME and XTREME-R once. GiB: size in CC-100, which is what
the encoder was pretrained on (Conneau et al. 2020, table 6; "-": absent). Joshi: class 0 to 5 of
Joshi et al. 2020, through a mapping of its list to ISO codes (ht has two entries there, the higher
stands here). Family and script are general knowledge, checked against XTREME-R's list of families;
the order of subject, object and verb is WALS's feature 81A as remembered ("-": none dominant), so
check it before relying on it. Of a toy world all this comes from its world.json: languages that
were made for it have no size in CC-100 and no class, but a share of the full pretraining text.
"""

import math
from typing import NamedTuple

UNKNOWN = "n/a"
LOW, HIGH = 5, 30               # GiB: low below, mid between, high from
GROUPS = ("unseen", "low", "mid", "high")
POOR = {"unseen", "low"}        # what "low-resource" means
POOREST_CLASSES = 2             # of Joshi et al.: low-resource up to here


class Language(NamedTuple):
    """One language; nan: not known of it."""

    code: str
    name: str
    family: str                 # without the branch: the cluster of statistics
    script: str
    order: str                  # SVO, SOV, VSO, -
    gib: float                  # 0: not in CC-100
    joshi: float
    text: float                 # of a toy language: its share of the full amount of text

    @property
    def group(self) -> str:
        """By size: unseen, low, mid, high."""
        if not math.isnan(self.text):
            return "low" if self.text < 1 else "high"
        if math.isnan(self.gib):
            return UNKNOWN
        sizes = ((0, "unseen"), (LOW, "low"), (HIGH, "mid"))
        return next((name for end, name in sizes if self.gib < end or self.gib == end == 0), "high")

    @property
    def joshi_group(self) -> str:
        if math.isnan(self.joshi):
            return UNKNOWN
        return "low" if self.joshi <= POOREST_CLASSES else "high"


TABLE = """
af | Afrikaans | IE: Germanic | Latn | 1.3 | 3 | -
ar | Arabic | Afro-Asiatic: Semitic | Arab | 28.0 | 5 | VSO
az | Azerbaijani | Turkic | Latn | 6.5 | 1 | SOV
bg | Bulgarian | IE: Slavic | Cyrl | 57.5 | 3 | SVO
bn | Bengali | IE: Indo-Aryan | Beng | 8.4 | 3 | SOV
de | German | IE: Germanic | Latn | 66.6 | 5 | -
el | Greek | IE: Greek | Grek | 46.9 | 3 | -
en | English | IE: Germanic | Latn | 300.8 | 5 | SVO
es | Spanish | IE: Romance | Latn | 53.3 | 5 | SVO
et | Estonian | Uralic | Latn | 6.1 | 3 | SVO
eu | Basque | Basque (isolate) | Latn | 2.0 | 4 | SOV
fa | Persian | IE: Iranian | Arab | 111.6 | 4 | SOV
fi | Finnish | Uralic | Latn | 54.3 | 4 | SVO
fr | French | IE: Romance | Latn | 56.8 | 5 | SVO
gu | Gujarati | IE: Indo-Aryan | Gujr | 1.9 | 1 | SOV
he | Hebrew | Afro-Asiatic: Semitic | Hebr | 31.6 | 3 | SVO
hi | Hindi | IE: Indo-Aryan | Deva | 20.2 | 4 | SOV
ht | Haitian Creole | Creole | Latn | - | 2 | SVO
hu | Hungarian | Uralic | Latn | 58.4 | 4 | -
id | Indonesian | Austronesian | Latn | 148.3 | 3 | SVO
it | Italian | IE: Romance | Latn | 30.2 | 4 | SVO
ja | Japanese | Japonic | Jpan | 69.3 | 5 | SOV
jv | Javanese | Austronesian | Latn | 0.2 | 1 | SVO
ka | Georgian | Kartvelian | Geor | 9.1 | 3 | SOV
kk | Kazakh | Turkic | Cyrl | 6.4 | 3 | SOV
ko | Korean | Korean (isolate) | Hang | 54.2 | 4 | SOV
lt | Lithuanian | IE: Baltic | Latn | 13.7 | 3 | SVO
ml | Malayalam | Dravidian | Mlym | 7.6 | 1 | SOV
mr | Marathi | IE: Indo-Aryan | Deva | 2.8 | 2 | SOV
ms | Malay | Austronesian | Latn | 8.5 | 3 | SVO
my | Burmese | Sino-Tibetan | Mymr | 2.0 | 1 | SOV
nl | Dutch | IE: Germanic | Latn | 29.3 | 4 | -
pa | Punjabi | IE: Indo-Aryan | Guru | 0.8 | 2 | SOV
pl | Polish | IE: Slavic | Latn | 44.6 | 4 | SVO
pt | Portuguese | IE: Romance | Latn | 49.1 | 4 | SVO
qu | Quechua | Quechuan | Latn | - | 1 | SOV
ro | Romanian | IE: Romance | Latn | 61.4 | 3 | SVO
ru | Russian | IE: Slavic | Cyrl | 278.0 | 4 | SVO
sw | Swahili | Niger-Congo | Latn | 1.6 | 2 | SVO
ta | Tamil | Dravidian | Taml | 12.2 | 3 | SOV
te | Telugu | Dravidian | Telu | 4.7 | 1 | SOV
th | Thai | Kra-Dai | Thai | 71.7 | 3 | SVO
tl | Tagalog | Austronesian | Latn | 3.1 | 3 | VSO
tr | Turkish | Turkic | Latn | 20.9 | 4 | SOV
uk | Ukrainian | IE: Slavic | Cyrl | 84.6 | 3 | SVO
ur | Urdu | IE: Indo-Aryan | Arab | 5.7 | 3 | SOV
vi | Vietnamese | Austro-Asiatic | Latn | 137.3 | 4 | SVO
wo | Wolof | Niger-Congo | Latn | - | 2 | SVO
yo | Yoruba | Niger-Congo | Latn | - | 2 | SVO
zh | Mandarin | Sino-Tibetan | Hans | 46.9 | 5 | SVO
"""


def parse(line: str) -> Language:
    code, name, family, script, gib, joshi, order = (cell.strip() for cell in line.split("|"))
    return Language(code, name, family.partition(":")[0], script, order,
                    0.0 if gib == "-" else float(gib), float(joshi), math.nan)


LANGUAGES = {one.code: one for one in map(parse, TABLE.strip().splitlines())}


def of(code: str, world: dict) -> Language:
    """A language of a world (splits.world); an unknown one is a family of its own."""
    found = world.get("properties", {}).get(code)
    if world["world"] == "real" and code in LANGUAGES:
        return LANGUAGES[code]
    facts = found or {"script": UNKNOWN, "order": UNKNOWN, "text": math.nan}
    return Language(code, code, code, facts["script"], facts["order"], math.nan, math.nan,
                    facts["text"])

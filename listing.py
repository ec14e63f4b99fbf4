"""The datasheet in print: what each row is, what of it is on disk, how to fetch the rest.

    python stilts.py --list [--missing] [--data DIR]
"""

from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import splits
import tasks
from files import read_lines


def datasheet(folder: Path) -> list[str]:
    """A Markdown table of all rows with their status on disk."""
    lines = ["| task | kind | group | metric | languages | sizes | files | licence | status |",
             "|" + "---|" * 9]
    for task in tasks.TASKS.values():
        wanted = " ".join(patterns[0] for patterns in task.files.values()) or " ".join(task.members)
        cells = (task.name, task.kind, task.group, task.metric, " ".join(task.languages),
                 task.sizes, wanted, task.licence, status(task, folder))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def status(task, folder: Path) -> str:
    """What is on disk: for training, for evaluation, and files of another size than published."""
    world, parts = splits.world(folder), []
    english = world["english"]
    for name in dict.fromkeys((*(task.members or [task.name]), *task.train_on)):
        row = tasks.get(name)
        if "train" in row.files:
            found = bool(splits.find(row, folder, "train", english))
            parts.append(f"train{'' if name == task.name else ' of ' + name} "
                         f"{'found' if found else 'missing'}")
    languages = splits.languages(task, folder, task.eval_split)
    parts.append(f"{task.eval_split} {'found: ' + ' '.join(languages) if languages else 'missing'}")
    wrong = [path.name for split in task.files for lang in languages or [english]
             for path in splits.find(task, folder, split, lang)
             if published_size(task, path.name, lang) not in (0, path.stat().st_size)]
    if wrong and world["world"] == "real":
        parts.append(f"wrong size: {' '.join(dict.fromkeys(wrong))}")
    return "; ".join(parts) + ("; fixture only" if task.fixture_only else "")


# ---- downloads


@cache
def published() -> dict[str, tuple[int, str]]:
    """URL -> (bytes, sha256) of the downloads whose contents are known."""
    rows = (line.split("\t") for _, line in read_lines(Path(__file__).with_name("downloads.tsv")))
    return {url: (int(size), digest) for url, size, digest in rows}


def published_size(task, name: str, lang: str) -> int:
    """Bytes of a file that is downloaded as it is; 0 where unknown or inside an archive."""
    urls = [fill(pattern, task, lang) for pattern in task.urls]
    return next((published()[url][0] for url in urls
                 if url in published() and file_name(url) == name), 0)


def fill(pattern: str, task, lang: str) -> str:
    return pattern.format(lang=lang, code=task.codes.get(lang, lang), english="en")


def file_name(url: str) -> str:
    return url.rpartition("/")[2].partition("?")[0]


def absent_languages(task, folder: Path, split: str) -> list[str]:
    """Languages that a split should have and has not: English alone for training, and where a
    split is one file of SQuAD or the like."""
    is_one_file = not any("{" in pattern for pattern in task.files[split])
    wanted = task.languages + task.xtreme_r
    if task.kind != "mlm" and (split == "train" or split == "dev" and is_one_file):
        wanted = ("en",)
    found = splits.languages(task, folder, split)
    return [lang for lang in wanted if lang not in found]


def downloads(task, absent: dict[str, list[str]]) -> dict[str, str]:
    """{URL: its place below the data folder} of what is absent, languages by split.

    What is no file of the row, an archive, goes to the data folder itself.
    """
    found = {}
    for pattern in task.urls:
        places = [(fill(pattern, task, lang), place(task, pattern, split, lang), split, lang)
                  for split in task.files for lang in task.languages + task.xtreme_r]
        is_archive = not any(path for _, path, _, _ in places)
        found |= {url: path or file_name(url) for url, path, split, lang in places
                  if (path or is_archive) and lang in absent.get(split, ())}
    return found


def place(task, pattern: str, split: str, lang: str) -> str:
    """Where a download lies if it is itself a file of this split; else ""."""
    name = file_name(fill(pattern, task, lang))
    for candidate in task.files[split]:
        folder, _, wanted = fill(candidate, task, lang).rpartition("/")
        if fnmatchcase(name, wanted):
            return f"{folder}/{name}"
    return ""


def fetching_lines(folder: Path) -> list[str]:
    """curl and sha256sum lines, for the data folder, of every file that a row lacks."""
    lines, seen = ["# To be run in the data folder. Archives are to be unpacked there."], set()
    for task in tasks.TASKS.values():
        absent = {split: absent_languages(task, folder, split) for split in task.files}
        if any(absent.values()):
            lines += [f"# {task.name}: {task.source}; licence: {task.licence}"]
            lines += [f"#   no {split} in {' '.join(langs)}, expected at "
                      + " or ".join(task.files[split]) for split, langs in absent.items() if langs]
            wanted = downloads(task, absent)
            lines += [line for url in wanted if url not in seen for line in fetch(url, wanted[url])]
            lines += [f"#   fetched above: {url}" for url in wanted if url in seen]
            lines += [] if wanted else ["#   no download is known that holds it in this form"]
            seen |= set(wanted)
    return lines


def fetch(url: str, path: str) -> list[str]:
    if "." not in path:
        return [f"#   to be ordered at {url}"]
    size, digest = published().get(url, (0, ""))
    return [f"curl -fL --create-dirs -o {path} '{url}'" + (f"  # {size:,} bytes" if size else ""),
            f"echo '{digest}  {path}' | sha256sum -c" if digest else
            "#   unverified: no checksum is known"]

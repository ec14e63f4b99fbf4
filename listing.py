"""The datasheet in print: what each row is, what of it is on disk, how to fetch the rest.

    python stilts.py --list [--missing] [--data DIR]
"""

from pathlib import Path

import splits
import tasks


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
             if published_size(task, path.name) not in (0, path.stat().st_size)]
    if wrong and world["world"] == "real":
        parts.append(f"wrong size: {' '.join(dict.fromkeys(wrong))}")
    return "; ".join(parts) + ("; fixture only" if task.fixture_only else "")


def published_size(task, name: str) -> int:
    """Bytes of a file that is downloaded as it is; 0 where unknown or inside an archive."""
    return next((size for url, size, _ in task.urls if url.endswith("/" + name)), 0)


def fetching_lines(folder: Path) -> list[str]:
    """curl and sha256sum lines for the downloads of every row that lacks a file."""
    lines = []
    for task in tasks.TASKS.values():
        absent = {}
        for split in task.files:
            found = splits.languages(task, folder, split)
            absent[split] = [lang for lang in wanted_languages(task, split) if lang not in found]
        if any(absent.values()):
            lines += [f"# {task.name}: {task.source}; licence: {task.licence}"]
            lines += [f"#   no {split} in {' '.join(langs)}, expected at "
                      + " or ".join(task.files[split]) for split, langs in absent.items() if langs]
            lines += [line for url in task.urls for line in fetch(task.name, *url)]
    return lines


def wanted_languages(task, split: str) -> tuple[str, ...]:
    """English alone for training, and where a split is one file of SQuAD or the like."""
    is_one_file = not any("{" in pattern for pattern in task.files[split])
    if task.kind != "mlm" and (split == "train" or split == "dev" and is_one_file):
        return ("en",)
    return task.languages + task.xtreme_r


def fetch(task: str, url: str, size: int, digest: str) -> list[str]:
    name = url.rpartition("/")[2]
    if "." not in name:
        return [f"#   to be ordered at {url}"]
    name = f"{task}-{name}" if name in ("master.zip", "main.zip") else name
    check = f"echo '{digest}  {name}' | sha256sum -c"
    return [f"curl -L -o {name} {url}" + (f"  # {size:,} bytes" if size else ""),
            check if digest else "#   unverified: no checksum is known"]

"""What a process leaves behind, whenever it ends: durable files and checkpoints.

A checkpoint is written aside, its manifest of sizes and hashes last, and renamed into place; the
newest whole one is what a stage goes on from.
"""

import hashlib
import json
import os
import re
import sys
from pathlib import Path

from tqdm import tqdm

import weights
from files import UserError, read_json


def log(text: str) -> None:
    """A line for people, beside progress bars, on stderr."""
    tqdm.write(text, file=sys.stderr)


def write_file(path: Path, text: str) -> None:
    """Replace a text file in one durable step."""
    try:
        weights.write_bytes(path, [text.encode("utf-8")])
    except OSError as problem:
        raise UserError(f"cannot write ({problem.strerror})", path) from None
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_folder(folder: Path) -> None:
    """Remove a flat folder of our own files; refuses anything with folders in it."""
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def checkpoint_name(step: int, is_evaluated: bool) -> str:
    """Sorts by step; an interrupted evaluation leaves `step-N`, a finished one `step-Ne`."""
    return f"step-{step:08d}{'e' if is_evaluated else ''}"


def write_checkpoint(parent: Path, name: str, tensors: dict[str, dict], state: dict,
                     keep: set[str]) -> None:
    """One complete checkpoint or none: written aside, manifest last, renamed, then older ones go.

    tensors: file stem -> tensors. The newest two and those in `keep` stay.
    """
    parent.mkdir(parents=True, exist_ok=True)
    aside = parent / f".{name}.part"
    if aside.exists():
        remove_folder(aside)
    try:
        aside.mkdir()
        for stem, content in tensors.items():
            weights.write_safetensors(aside / f"{stem}.safetensors", content)
        write_file(aside / "state.json", json.dumps(state))
        files = {p.name: [p.stat().st_size, file_sha256(p)] for p in sorted(aside.iterdir())}
        write_file(aside / "MANIFEST.json", json.dumps(files, indent=1))
        os.rename(aside, parent / name)
    except (OSError, UserError) as problem:
        if aside.exists():
            remove_folder(aside)
        why = problem.strerror if isinstance(problem, OSError) else problem
        raise UserError(f"cannot save ({why}); the checkpoint before is intact",
                        parent / name) from None
    sync_folder(parent)
    for old in complete_checkpoints(parent)[:-2]:
        if old.name not in keep:
            remove_folder(old)


def complete_checkpoints(parent: Path) -> list[Path]:
    """Folders that were renamed into place, oldest first."""
    return sorted(p for p in parent.glob("step-*") if re.fullmatch(r"step-\d{8}e?", p.name))


def newest_checkpoint(parent: Path) -> Path | None:
    """The newest checkpoint whose files agree with its manifest; a damaged one is set aside.

    Raises UserError when there are checkpoints and none is whole: never a silent new start.
    """
    found = complete_checkpoints(parent)
    for folder in reversed(found):
        try:
            manifest = read_json(folder / "MANIFEST.json")
            bad = [name for name, (size, sha) in manifest.items()
                   if (folder / name).stat().st_size != size or file_sha256(folder / name) != sha]
        except (OSError, UserError, ValueError) as problem:
            bad = [str(problem)]
        if not bad:
            return folder
        log(f"warning: {folder}: damaged ({bad[0]}), set aside; trying the one before")
        folder.rename(folder.with_name(folder.name + ".bad"))
    if found:
        raise UserError("no checkpoint is whole; remove the folder to start over", parent)
    return None


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

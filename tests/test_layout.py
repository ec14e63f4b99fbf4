"""The shape of the project: budgets, arrows, dead flags and functions, README's numbers.

    pytest tests/test_layout.py
"""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from conftest import ROOT

ORDER = ("files", "readers", "tagging", "tasks", "splits", "metrics", "submission", "compare",
         "benchmark", "eval", "model", "weights", "checkpoints", "data", "draws", "search", "ranks",
         "features", "predict", "robust", "plan", "train", "runs", "listing", "stilts")
# room -> rooms of ours that it may import: those before it, and fewer for rooms that stand apart
ROOMS = {room: set(ORDER[:place]) for place, room in enumerate(ORDER)} | {
    "model": set(), "weights": {"files", "model"}, "metrics": {"files", "readers"}}
ALL_ROOMS = 7700              # lines of all rooms together
ALL_STUDIES = 7500            # lines of studies/
AUDIT_PATH = 1480             # lines that `--inter squad --target tydiqa` executes
PARSED = {name: ast.parse((ROOT / f"{name}.py").read_text(encoding="utf-8")) for name in ROOMS}
STUDIES = {path.stem: ast.parse(path.read_text(encoding="utf-8"))
           for path in sorted((ROOT / "studies").glob("*.py"))}


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def python_files() -> list[Path]:
    return [*(ROOT / f"{name}.py" for name in ROOMS),
            *sorted(path for folder in ("toy", "studies") for path in (ROOT / folder).glob("*.py"))]


def functions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]


def complexity(function) -> int:
    """McCabe's number, as ruff's C901 counts it."""
    branches = (ast.If, ast.For, ast.While, ast.ExceptHandler, ast.comprehension, ast.match_case)
    return 1 + sum(isinstance(n, branches) for n in ast.walk(function))


@pytest.mark.parametrize("path", python_files(), ids=lambda p: p.name)
def test_file_and_function_budgets(path):
    text = lines(path)
    assert len(text) <= (600 if path.name == "tasks.py" else 500)     # a table of rows has room
    assert [i for i, line in enumerate(text, 1) if len(line) > 100] == []
    for f in functions(ast.parse("\n".join(text))):
        assert f.end_lineno - f.lineno < (80 if f.name == "train" else 40), f.name
        assert complexity(f) <= 10, f.name


def test_all_rooms_together():
    assert sum(len(lines(ROOT / f"{name}.py")) for name in ROOMS) <= ALL_ROOMS
    assert sum(len(lines(ROOT / f"studies/{name}.py")) for name in STUDIES) <= ALL_STUDIES


def test_no_other_rooms():
    assert {p.stem for p in ROOT.glob("*.py")} == set(ROOMS)


def imports(tree) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("name", STUDIES)
def test_studies_import_rooms_and_never_the_reverse(name):
    assert imports(STUDIES[name]) <= {"studies", "numpy", "torch", *ROOMS, *sys.stdlib_module_names}
    assert all("studies" not in imports(tree) for tree in PARSED.values())


@pytest.mark.parametrize("name", ROOMS)
def test_arrows_point_one_way(name):
    imported = imports(PARSED[name])
    late = {"predict"} if name == "eval" else set()        # for --example alone
    assert imported & set(ROOMS) <= ROOMS[name] | late
    allowed = set(sys.stdlib_module_names) | {"torch", "numpy", "sentencepiece", "tqdm"} | set(ROOMS)
    assert imported <= allowed | ({"toy"} if name == "stilts" else set())      # its controls
    if name in ORDER[:ORDER.index("eval")]:                # what scores without any package
        assert imported <= set(sys.stdlib_module_names) | set(ROOMS)


def test_every_flag_is_read():
    import stilts
    parser, _ = stilts.parse([])
    flags = {action.dest for action in parser._actions} - {"help"}
    text = "".join((ROOT / f"{name}.py").read_text(encoding="utf-8") for name in ROOMS)
    assert {f for f in flags if not re.search(rf"given\.{f}\b", text)} == set()
    assert len(flags) <= 25


def test_every_function_is_used():
    sources = python_files() + sorted((ROOT / "tests").glob("*.py"))
    words = Counter(word for p in sources for word in re.findall(r"\w+", p.read_text("utf-8")))
    for name, tree in [*PARSED.items(), *STUDIES.items()]:
        for f in functions(tree):
            if not f.name.startswith("__") and f.name != "forward":
                assert words[f.name] > 1, f"{name}.{f.name}"


def test_kinds_agree():
    import benchmark
    import data
    import metrics
    import model
    import predict
    import submission
    import tasks
    kinds = {task.kind for task in tasks.TASKS.values()}
    assert kinds == set(data.FEATURIZE) == set(model.HEADS) == set(model.LOSSES) == set(
        predict.DECODE)
    forms = {task.form for task in tasks.TASKS.values()} - {"mlm"}
    assert forms == set(submission.EXTENSION) == set(submission.PARSE) == set(submission.FORMAT)
    assert forms == set(benchmark.SCORE) and kinds - {"mlm"} == set(benchmark.GROUPS)
    used = {task.metric for task in tasks.TASKS.values()} - {""}
    assert used == {*metrics.METRICS, *metrics.BY_LANGUAGE}
    assert used == set(metrics.MAIN)


def test_nothing_outside_the_datasheet_is_keyed_by_a_tasks_name():
    import tasks
    kinds = {task.kind for task in tasks.TASKS.values()}
    for name, tree in [*PARSED.items(), *STUDIES.items()]:
        if name != "tasks":
            literals = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
            assert literals & (set(tasks.TASKS) - kinds) == set(), name


def test_readmes_line_counts_are_true():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    claimed = dict(re.findall(r"\| `(\w+)\.py` \| (\d+) \|", readme))
    assert claimed == {name: str(len(lines(ROOT / f"{name}.py"))) for name in ROOMS}


def test_the_audit_path_is_short_and_readme_states_it(tmp_path):
    """Distinct lines of ours that the main command executes, counted by sys.settrace."""
    command = [sys.executable, ROOT / "tests/audit_path.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    count = int(done.stdout.split("\n")[-2].split()[0])
    assert count < AUDIT_PATH
    claimed = re.search(r"executes (\d+) lines", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert abs(int(claimed[1]) - count) <= 5           # a slow machine prints a line every 10 s

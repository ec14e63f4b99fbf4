"""The command: the README's line, resume, refusals, one error line for every mistake."""

import contextlib
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

import eval as evaluation
import stilts
import tasks
from conftest import ROOT
from files import UserError
from studies import __main__ as studies

QUICK = ["--limit", "24", "--set", "steps=4", "--set", "evaluations=2"]


def run(*arguments, out, code=0, **options):
    """The command as a process; stdout and stderr."""
    command = [sys.executable, ROOT / "stilts.py", *arguments, "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def error_of(*arguments, out):
    """The one error line of a command that must end with code 2 and no traceback."""
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
        assert stilts.main([*map(str, arguments), "--out", str(out)]) == 2
    stderr = stderr.getvalue()
    errors = [line for line in stderr.split("\n") if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in stderr, stderr
    assert len(errors[0]) < 400
    return errors[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of the main command with few steps."""
    out = tmp_path_factory.mktemp("main") / "runs"
    stdout, stderr = run("--inter", "squad", "--target", "tydiqa", *QUICK, out=out)
    return out, stdout, stderr


def test_the_main_command_prints_baseline_and_intermediate(finished):
    out, stdout, stderr = finished
    rows = stdout.split("\n")
    assert rows[0].startswith("TOY: invented languages") and rows[-2] == rows[0]
    assert any(r.startswith("| none") for r in rows) and any(r.startswith("| squad") for r in rows)
    assert "LIMITED" in stdout and "zero-shot mean" in stdout and "Traceback" not in stderr


def test_a_kill_while_the_first_file_is_written_blocks_nothing(tmp_path):
    folder = tmp_path / "runs/toy--none--tatoeba--s1--limited"
    folder.mkdir(parents=True)
    (tmp_path / "runs/.stilts").touch()
    (folder / "config.json.part").touch()
    run("--target", "tatoeba", *QUICK, out=tmp_path / "runs")
    assert (folder / "DONE").exists()


def test_changed_means_are_noticed(finished, capsys):
    folder = finished[0] / "toy--none--tydiqa--s1--limited"
    record = (folder / "metrics.json").read_text()
    (folder / "metrics.json").write_text(json.dumps(json.loads(record) | {"official": 99.9}))
    assert evaluation.main([str(folder)]) == 2
    (folder / "metrics.json").write_text(record)
    assert "official: recorded 99.9" in capsys.readouterr().err


def test_what_a_run_leaves(finished):
    out, _, _ = finished
    folder = out / "toy--squad--tydiqa--s1--limited"
    record = json.loads((folder / "metrics.json").read_text())
    assert record["world"] == "toy" and record["limited"] == 24
    languages = set(record["languages"])
    files = {p.name for p in (folder / "predictions/tydiqa").iterdir()}
    assert files == {f"test-{lang}.json" for lang in languages} and len(languages) >= 4
    config = json.loads((folder / "config.json").read_text())
    assert {"argv", "torch", "commit", "threads"} <= set(config["recorded"])
    assert config["stages"][0]["values"]["squad"]["steps"] == [4, "--set"]
    assert (folder / "DONE").exists() and not list(out.glob("stages/*/ckpt/*"))


def test_the_same_command_again_is_done_and_prints_the_same(finished):
    out, stdout, _ = finished
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != "lock"}
    again, stderr = run("--inter", "squad", "--target", "tydiqa", *QUICK, out=out)
    assert again == stdout and "step" not in stderr
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_second_target_reuses_the_intermediate_stage(finished):
    out, _, _ = finished
    _, stderr = run("--inter", "squad", "--target", "tatoeba", *QUICK, out=out)
    assert "stage squad seed 1: done before" in stderr


def test_rescoring_agrees_and_notices_a_changed_file(finished, capsys):
    out, _, _ = finished
    folder = out / "toy--squad--tydiqa--s1--limited"
    assert evaluation.main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[-1] and lines[0].startswith("TOY: ")
    record = (folder / "metrics.json").read_text()
    changed = json.loads(record)
    lang = next(iter(changed["languages"]))
    changed["languages"][lang]["f1"] += 1
    (folder / "metrics.json").write_text(json.dumps(changed))
    assert evaluation.main([str(folder)]) == 2
    (folder / "metrics.json").write_text(record)
    assert "recorded" in capsys.readouterr().err


def test_two_runs_side_by_side_and_under_every_convention(finished, capsys):
    arms = [finished[0] / f"toy--{arm}--tydiqa--s1--limited" for arm in ("none", "squad")]
    assert evaluation.main([*map(str, arms), "--flips", "1"]) == 0
    table = capsys.readouterr().out.split("B = ")[1]
    scores = [json.loads((arm / "metrics.json").read_text()) for arm in arms]
    gain = scores[1]["official"] - scores[0]["official"]
    assert f"{scores[1]['official']:.1f} | {gain:+.1f} ± " in table
    assert studies.main(["conventions", *map(str, arms)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[-3] and lines[0].startswith("TOY") and lines[1] == "LIMITED to 24"
    first = [line for line in lines if line.startswith("| all runs, with English")]
    assert len(first) == 1 and first[0].endswith(f"(F1 + EM) / 2 | {gain:+.1f} |")
    assert any(line.startswith(f"| without English | {gain:+.1f} → ") for line in lines)


def test_one_examples_walk(finished, capsys):
    out, _, _ = finished
    folder = out / "toy--squad--tydiqa--s1--limited"
    assert evaluation.main([str(folder), "--example", "toy-en:3"]) == 0
    walk = capsys.readouterr().out
    for part in ("question:", "context:", "sequence 0: <s>", "</s> </s>", "span ", "no answer",
                 "answer:", "exact_match"):
        assert part in walk
    assert evaluation.main([str(folder), "--example", "toy-en:99999"]) == 2


def test_predictions_for_a_file_equal_the_runs_own(finished):
    out, _, _ = finished
    folder = out / "toy--squad--tydiqa--s1--limited"
    config = json.loads((folder / "config.json").read_text())
    path = next(p for p in config["files"] if "toy-en.dev" in p)
    stdout, _ = run("--predict", folder, path, out=out)
    own = json.loads((folder / "predictions/tydiqa/test-toy-en.json").read_text())
    answers = json.loads(stdout)
    assert {k: answers[k] for k in own} == own and len(answers) > len(own)


def test_retrieval_at_every_layer_is_one_table(tmp_path):
    stdout, _ = run("--target", "tatoeba", "--limit", "10", "--layer", "all", out=tmp_path / "r")
    rows = [line.split("|") for line in stdout.split("\n") if line.startswith("| none, block")]
    assert [row[1].strip() for row in rows] == [f"none, block {n}" for n in range(1, 7)]
    alone, _ = run("--target", "tatoeba", "--limit", "10", "--layer", "2", out=tmp_path / "s")
    assert "|".join(rows[1][3:]) in alone


def test_missing_files_come_with_commands_that_fetch_and_verify(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "squad").mkdir()
    for split in ("train", "dev"):
        shutil.copy(ROOT / f"tests/fixtures/data/squad/{split}-v1.1.json", data / "squad")
    stdout, _ = run("--list", "--missing", "--data", data, out=tmp_path / "r")
    lines = stdout.split("\n")
    fetch = lines.index(next(x for x in lines if x.startswith("curl") and "xquad.en.json" in x))
    assert lines[fetch].startswith("curl -fL --create-dirs -o xquad/xquad.en.json 'https://")
    assert lines[fetch + 1].endswith("  xquad/xquad.en.json' | sha256sum -c")
    assert len({line for line in lines if line.startswith("curl")}) == stdout.count("\ncurl ") > 150
    told = {" ".join(line.split(" ")[:2]) for line in lines if re.match("# [a-z]", line)}
    assert told == {f"# {row.name}:" for row in tasks.ROWS if row.files and row.name != "squad"}
    assert not any("squad/dev-v1.1.json" in line for line in lines)
    assert any(line.startswith("#   no test in en es") and " ro, " in line for line in lines)
    assert "unverified: no checksum is known" in stdout and "Amazon link is dead" in stdout
    assert "panx_dataset.zip'" in stdout and "panx_dataset.tar?dl=1'" in stdout


def test_seeds_give_mean_and_spread(tmp_path):
    stdout, _ = run("--inter", "none", "--target", "xnli", "--seed", "1,2", *QUICK,
                    out=tmp_path / "runs")
    row = next(line for line in stdout.split("\n") if line.startswith("| none"))
    assert "| 1,2 |" in row and "±" in row


def test_dry_run_list_and_check_write_nothing(tmp_path):
    out = tmp_path / "runs"
    plan, _ = run("--inter", "squad", "--target", "tydiqa,udpos", "--dry-run", out=out)
    assert "(recipe.json)" in plan and "(row squad)" in plan and "steps" in plan
    assert run("--list", out=out)[0].count("\n|") >= 10
    check, _ = run("--check", out=out)
    assert "squad train toy-en" in check and "[" in check.split("\n")[-3]
    assert not out.exists()


@pytest.mark.parametrize("arguments, words", [
    (["--inter", "sqad", "--target", "tydiqa"], "unknown task 'sqad' (did you mean squad"),
    (["--target", "tydiqua"], "did you mean tydiqa"),
    (["--intre", "squad"], "did you mean --inter"),
    (["--target", "tydiqa", "--model", "."], "--model and --data belong together"),
    (["--target", "tydiqa", "--seed", "1,x"], "--seed wants"),
    (["--target", "tydiqa", "--seed", "1,1", "--limit", "-1"], "; "),
    (["--target", "tydiqa", "--set", "lr=-1"], "lr=-1.0 (allowed"),
    (["--target", "tydiqa", "--set", "lr=nan"], "lr=nan"),
    (["--target", "tydiqa", "--set", "speed=3"], "no such field"),
    (["--target", "tydiqa", "--set", "batch_size=many"], "expected a number"),
    (["--target", "tydiqa", "--set", "max_length=4000"], "max_length 4000"),
    (["--inter", "tatoeba", "--target", "tydiqa"], "no training data"),
    (["--inter", "squad+squad", "--target", "tydiqa"], "stands twice"),
    (["--target", "tydiqa", "--split", "moon"], "no split moon"),
    (["--target", "tydiqa", "--device", "tpu9"], "--device tpu9"),
    (["--target", "tydiqa", "--model", "missing", "--data", "missing"], "no such data folder"),
    ([], "give one of --target"),
    (["--list", "--check"], "give one of --target"),
    (["--missing", "--target", "xnli"], "--missing belongs to --list"),
    (["--target", "tatoeba", "--layer", "deep"], "--layer wants a number from 0 or `all`"),
    (["--target", "tydiqa", "--layer", "2"], "retrieval that is not trained, not for tydiqa"),
    (["--target", "lareqa", "--layer", "all"], "retrieval that is not trained, not for lareqa"),
    (["--inter", "squad", "--target", "none", "--layer", "4"], "not for none"),
    (["--target", "xcopa", "--set", "xcopa.lr=0.5"], "--set xcopa.lr: no stage here"),
    (["--target", "anliplus@toy-lex"], "no training file in toy-lex"),
    (["--target", "tydiqa", "--seed", "1,01"], "--seed wants"),
    (["--inter", "xnli", "--target", "tydiqa"], "use mnli"),
    (["--target", "tatoeba", "--layer", "99"], "--layer 99"),
    (["--target", "tatoeba", "--set", "tatoeba.nonsense=3"], "no such field"),
    (["--target", "tydiqa", "--set", "xnli.lr=0.5"], "no stage here"),
    (["--target", "tydiqa,tatoeba", "--split", "dev"], "tatoeba dev: no files"),
    (["--target", "tatoeba", "--split", "dev", "--dry-run"], "tatoeba dev: no files"),
    (["--inter", "squad+mlm", "--target", "tydiqa", "--set", "mlm.warmup=0.5"], "warmup differs"),
    (["--predict", "toy/encoder", "x"], "toy/encoder"),
])
def test_mistakes_on_the_command_line_are_one_line(tmp_path, arguments, words):
    assert words in error_of(*arguments, out=tmp_path / "runs")


def test_other_settings_in_the_same_folder_are_refused(finished):
    out, _, _ = finished
    before = sorted(p.as_posix() for p in (out / "toy--squad--tydiqa--s1--limited").rglob("*"))
    line = error_of("--inter", "squad", "--target", "tydiqa", *QUICK, "--set", "tydiqa.epochs=1",
                    "--set", "tydiqa.lr=0.0001", out=out)
    assert "made with another stages" in line
    assert before == sorted(p.as_posix() for p in
                            (out / "toy--squad--tydiqa--s1--limited").rglob("*"))


def test_a_folder_that_is_not_ours_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    assert "not a results folder" in error_of("--target", "tydiqa", *QUICK, out=tmp_path)
    link = tmp_path / "link"
    (tmp_path / "real").mkdir()
    link.symlink_to(tmp_path / "real")
    assert "not a results folder" in error_of("--target", "tydiqa", *QUICK, out=link)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "real", "thesis.txt"]


def test_worlds_are_never_mixed(tmp_path):
    (tmp_path / "data").mkdir()
    line = error_of("--target", "tydiqa", "--model", ROOT / "toy/encoder", "--data",
                    tmp_path / "data", out=tmp_path / "runs")
    assert "never mixed" in line


def test_an_unfinished_run_with_other_settings_begins_anew(tmp_path):
    out = tmp_path / "runs"
    folder = out / "toy--none--tatoeba--s1--limited"
    run("--target", "tatoeba", *QUICK, out=out)
    (folder / "DONE").unlink()
    _, stderr = run("--target", "tatoeba", *QUICK, "--set", "tatoeba.max_length=40", out=out)
    assert "another row" in stderr and (folder / "DONE").exists()
    assert json.loads((folder / "config.json").read_text())["key"]["row"]["max_length"] == 40


def test_two_processes_on_one_run(finished):
    import runs
    out, _, _ = finished
    folder = out / "toy--squad--tydiqa--s1--limited"
    with runs.locked(folder):
        with pytest.raises(UserError, match="in use by .*process"):
            with runs.locked(folder):
                pass


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path, number, code):
    arguments = ["--inter", "none", "--target", "udpos", "--set", "steps=3000"]
    command = [sys.executable, ROOT / "stilts.py", *arguments, "--out", tmp_path / "runs"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    journal = None
    while journal is None and process.poll() is None:     # a line in train.jsonl: steps are made
        time.sleep(0.1)
        journal = next((p for p in tmp_path.glob("runs/stages/*/train.jsonl")
                        if p.read_text()), None)
    process.send_signal(number)
    assert process.wait(60) == code
    assert "saved" in process.stderr.read()
    saved = list(tmp_path.glob("runs/stages/*/ckpt/step-*"))
    assert len(saved) == 1
    step = int(saved[0].name.strip("step-e"))
    state = json.loads((saved[0] / "state.json").read_text())
    assert state["step"] == step > 0


def test_a_full_disk_is_one_line_and_leaves_no_half_checkpoint(tmp_path):
    def small_files():                              # every file ends at 300 kB, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    command = [sys.executable, ROOT / "stilts.py", "--target", "udpos", *QUICK, "--out",
               tmp_path / "runs"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=small_files,
                          env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: ") == 1 and "too large" in done.stderr
    assert not list(tmp_path.glob("runs/stages/*/ckpt/*"))


def test_a_closed_pipe_is_no_error(finished):
    out, _, _ = finished
    command = f"'{sys.executable}' '{ROOT / 'stilts.py'}' --list --out '{out}' | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout.startswith("TOY") and "Traceback" not in done.stderr


def test_help_fits_two_screens(capsys):
    with pytest.raises(SystemExit):
        stilts.main(["--help"])
    text = capsys.readouterr().out
    assert text.count("\n") < 90 and "what to run" in text and "training" in text


def test_a_pooled_row_is_an_intermediate_task(capsys, tmp_path):
    arguments = ["--inter", "anliplus", "--target", "cola", "--model", ROOT / "toy/encoder",
                 "--data", tmp_path / "data", "--out", tmp_path / "r", "--dry-run"]
    shutil.copytree(ROOT / "tests/fixtures/data", tmp_path / "data")
    shutil.copy(ROOT / "toy/encoder/world.json", tmp_path / "data")
    assert stilts.main([*map(str, arguments)]) == 0
    assert "stage anliplus" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, words", [
    (["--target", "mewslix"], "million entities are not searched"),
    (["--inter", "xquad", "--target", "tydiqa"], "no training data of its own; use squad")])
def test_rows_that_cannot_be_run_say_why(tmp_path, arguments, words):
    assert words in error_of(*arguments, out=tmp_path / "r")

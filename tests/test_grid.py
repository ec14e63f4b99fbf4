"""The grid: plans with shared stages, locks, shards, failures."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import runs
import stilts
import tasks
from conftest import ROOT
from files import UserError
from studies import grid, results

QUICK = ["--inter", "none,squad", "--target", "tydiqa,tatoeba", "--limit", "8",
         "--set", "steps=2", "--set", "evaluations=1"]


@pytest.fixture
def fast_beat(monkeypatch):
    monkeypatch.setattr(runs, "BEAT", 0.02)


def leave_lock(folder, silence: float) -> None:
    """What a process of another machine leaves when it dies, `silence` seconds ago."""
    folder.mkdir()
    (folder / "lock").write_text("process 1 on elsewhere, another-kernel")
    os.utime(folder / "lock", (time.time() - silence,) * 2)


def test_a_lock_of_another_machine_holds_until_it_is_silent_for_long(tmp_path):
    leave_lock(tmp_path / "a", runs.TAKEOVER - 60)
    with pytest.raises(runs.Busy, match="in use by process 1 on elsewhere.*last seen"):
        with runs.locked(tmp_path / "a"):
            pass
    leave_lock(tmp_path / "b", runs.TAKEOVER + 60)
    with runs.locked(tmp_path / "b"):
        assert (tmp_path / "b/lock").read_text() == runs.owner()
    assert (tmp_path / "b/lock").read_text() == ""


def test_a_lock_gives_signs_of_life(tmp_path, fast_beat):
    with runs.locked(tmp_path):
        os.utime(tmp_path / "lock", (0, 0))
        wait_for(lambda: (tmp_path / "lock").stat().st_mtime > 0)


def test_who_lost_a_lock_stops_and_leaves_it_to_its_new_owner(tmp_path, fast_beat):
    with pytest.raises(runs.Busy, match="taken over"):
        with runs.locked(tmp_path):
            (tmp_path / "lock").write_text("process 2 on elsewhere, another-kernel")
            wait_for(lambda: runs.LOST)
            runs.stopping(None)
    assert (tmp_path / "lock").read_text().startswith("process 2") and not runs.LOST


def wait_for(condition) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


# ---- the plan


def test_a_grid_of_nine_by_nine_by_three_trains_27_intermediate_stages(tmp_path, capsys):
    shutil.copytree(ROOT / "toy/encoder", tmp_path / "model",
                    ignore=shutil.ignore_patterns("world.json"))
    arms = "mnli,anliplus,qqp,squad,squad2,hellaswag,ccg,cosmosqa,commonsenseqa"
    targets = [row.name for row in tasks.ROWS if "xtreme" in row.benchmarks]
    assert grid.main(["--inter", arms, "--target", ",".join(targets), "--seed", "1,2,3",
                      "--dry-run", "--set", "steps=7", "--set", "max_length=64", "--out",
                      str(tmp_path / "runs"), "--data", str(ROOT / "tests/fixtures/data"),
                      "--model", str(tmp_path / "model")]) == 0
    text = capsys.readouterr().out
    assert "243 runs, 0 of them done" in text
    assert "27 intermediate stages (without sharing 243)" in text
    assert "189 target stages (without sharing 189)" in text
    assert "| anliplus | 3 of 3 | 7 | not measured |" in text
    assert not (tmp_path / "runs").exists()


def jobs_of(arms, targets, seeds) -> list[grid.Job]:
    return [grid.Job(arm, target, seed, []) for seed in seeds for arm in arms
            for target in ([] if arm == "none" else [""]) + targets]


def test_every_shard_does_everything_in_the_end_its_own_share_first():
    jobs = jobs_of(["none", "a", "b"], ["x", "y"], [1, 2])
    orders = [grid.for_shard(jobs, number, 3) for number in (1, 2, 3)]
    for order in orders:
        assert sorted(map(str, order)) == sorted(map(str, jobs))
        for share in (order[:len(order) // 3], order):
            stages = [job.group for job in share if not job.target]
            assert all(job.target == "" or job.inter == "none" or job.group in stages
                       for job in share)
    own = [{job.group for job in order[:3]} for order in orders]
    assert not own[0] & own[1] and not own[1] & own[2] and not own[0] & own[2]
    whole = grid.for_shard(jobs, 1, 1)
    assert [job.target for job in whole] == [""] * 4 + [job.target for job in whole[4:]]
    assert all(job.target for job in whole[4:])


@pytest.mark.parametrize("arguments, words", [
    (["--target", "tydiqa", "--shard", "3/2"], "expected I/N"),
    (["--target", "none", "--inter", "squad"], "grid wants --target"),
    (["--target", "tydiqa", "--inter", "none,sqad"], "unknown task 'sqad'"),
    (["--target", "tydiqa", "--inter", "none,squad", "--set", "mnli.lr=1e-5"], "no stage here")])
def test_mistakes_cost_nothing(tmp_path, arguments, words):
    with pytest.raises(UserError) as told:
        grid.main([*arguments, "--out", str(tmp_path / "runs")])
    assert words in str(told.value) and not (tmp_path / "runs").exists()


# ---- the work


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "PAUSE", 0)
    monkeypatch.setattr(runs, "robust_training", lambda *_: "")       # of invented tasks: none
    given = SimpleNamespace(split=None, limit=0, layer=0)
    return SimpleNamespace(out=tmp_path, given=given, world={"world": "real"}, stop=lambda: 0)


def test_one_failing_run_stops_no_other(context, monkeypatch, capsys):
    done = []

    def do(job, context):
        if job.name in ("a -> all targets, seed 1", "b -> x, seed 1"):
            raise UserError("no space") if job.inter == "a" else ZeroDivisionError("a bug")
        done.append(job.name)

    monkeypatch.setattr(grid, "do", do)
    failed = grid.work(jobs_of(["none", "a", "b"], ["x", "y"], [1]), context)
    assert done == ["none -> x, seed 1", "none -> y, seed 1", "b -> all targets, seed 1",
                    "b -> y, seed 1"]
    assert failed == {"a -> all targets, seed 1": "no space", "b -> x, seed 1": "a bug",
                      "a -> x, seed 1": "its intermediate stage failed (no space)",
                      "a -> y, seed 1": "its intermediate stage failed (no space)"}
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_what_others_have_locked_is_left_for_later(context, monkeypatch):
    tried, busy = [], {"a -> all targets, seed 1": 2, "a -> x, seed 1": 1}

    def do(job, context):
        tried.append(job.name)
        if busy.get(job.name):
            busy[job.name] -= 1
            raise runs.Busy("in use", context.out)

    monkeypatch.setattr(grid, "do", do)
    assert grid.work(jobs_of(["a", "b"], ["x"], [1]), context) == {}
    stage, run = "a -> all targets, seed 1", "a -> x, seed 1"
    assert tried == [stage, run, "b -> all targets, seed 1", "b -> x, seed 1", stage, run, stage]


def test_stages_whose_runs_are_all_done_are_not_needed(context, monkeypatch):
    tried = []
    monkeypatch.setattr(grid, "do", lambda job, context: tried.append(job.name))
    (context.out / "a--x--s1").mkdir()
    (context.out / "a--x--s1/DONE").touch()
    grid.work(jobs_of(["a", "b"], ["x"], [1]), context)
    assert tried == ["a -> x, seed 1", "b -> all targets, seed 1", "b -> x, seed 1"]


def numbers(out) -> dict:
    return {path.parent.name: json.loads(path.read_text()) for path in out.glob("*/metrics.json")}


def test_two_shards_at_once_give_what_one_process_gives(tmp_path):
    command = [sys.executable, "-m", "studies", "grid", *QUICK, "--out", tmp_path / "two"]
    shards = [subprocess.Popen([*command, "--shard", f"{i}/2"], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE) for i in (1, 2)]
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    assert grid.main([*QUICK, "--out", str(tmp_path / "one")]) == 0
    for number, handler in handlers:
        signal.signal(number, handler)
    ended = [shard.communicate(timeout=300) for shard in shards]
    assert [shard.returncode for shard in shards] == [0, 0], ended
    assert len(numbers(tmp_path / "one")) == 4 and numbers(tmp_path / "one") == numbers(
        tmp_path / "two")
    for stage in (tmp_path / "two/stages").iterdir():       # each was trained by one of the two
        told = [f"{stage.name}\n" in err and f": {stage}" in err for _, err in ended]
        assert sum(told) == 1, (stage, ended)
    page = (tmp_path / "two/report/report.html").read_text()
    assert "4 of 4 runs are there" in page and page.count("<svg") == 6
    file = next((tmp_path / "one").glob("*tydiqa--s1*/predictions/tydiqa/*"))
    file.write_text(file.read_text().replace(": \"", ": \"wrong ", 1))
    with pytest.raises(UserError, match="do not give metrics.json"):
        results.load(file.parents[2]).examples

"""Several ranks (gloo, forked processes): the same numbers as one, one writer, one message."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import forks
import ranks
import stilts
import test_train
import train
import weights
from conftest import ROOT
from files import UserError
from predict import Hardware

TRAINING = ["--target", "udpos", "--limit", "9", "--set", "steps=6", "--set", "evaluations=2"]
ALL_KINDS = ["--inter", "squad+mnli+udpos+mlm", "--target", "tydiqa,xnli,udpos,tatoeba",
             "--limit", "9", "--set", "steps=6", "--set", "evaluations=2",
             "--set", "batch_size=5"]


def watch_files(out, record) -> None:
    """Append each file or folder below `out` that this process makes, moves or removes to record."""
    def hook(event, arguments):
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & (
            os.O_WRONLY | os.O_RDWR)
        if is_write or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            paths = [str(path) for path in arguments[:2 if event == "os.rename" else 1]]
            if any(str(out) in path for path in paths):
                os.write(record, f"{event} {paths[-1]}\n".encode())
    sys.addaudithook(hook)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The same command with one rank and with two: count -> (folder, ranks)."""
    groups = {}
    for count in (1, 2):
        folder = tmp_path_factory.mktemp(f"ranks{count}")

        def work(rank, folder=folder):
            flags = os.O_WRONLY | os.O_CREAT
            watch_files(folder / "runs", os.open(folder / f"writes-{rank}", flags))
            return stilts.main([*ALL_KINDS, "--out", str(folder / "runs")])
        groups[count] = folder, forks.Ranks(count, work, folder)
    for count, (_, group) in groups.items():
        assert group.wait() == [0] * count, group.said()
    return {count: folder for count, (folder, _) in groups.items()}


def rows_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def pairs(finished, pattern: str) -> list:
    """The files of one rank that a pattern finds, each with that of two ranks."""
    one, two = (finished[count] / "runs" for count in (1, 2))
    found = [path.relative_to(one) for path in sorted(one.glob(pattern))]
    assert found == [path.relative_to(two) for path in sorted(two.glob(pattern))]
    return [(one / path, two / path) for path in found]


def test_loss_norm_and_dev_score_of_every_step_are_equal(finished):
    logs = pairs(finished, "stages/*/train.jsonl")
    trained = {row["task"] for log, _ in logs for row in rows_of(log) if "task" in row}
    assert len(logs) == 7 and trained == {"squad", "mnli", "udpos", "mlm", "tydiqa"}
    for one, two in logs:
        for a, b in zip(rows_of(one), rows_of(two), strict=True):
            assert a.keys() == b.keys() and a["step"] == b["step"]
            if "dev" in a:
                assert a["dev"] == b["dev"]
            else:
                assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
                assert a["norm"] == pytest.approx(b["norm"], rel=1e-4)


def test_final_weights_are_equal(finished):
    """Key and span biases are left out: a softmax does not see them, so that their gradients are
    zero but for rounding, of which Adam makes whole steps."""
    start = weights.read_safetensors(ROOT / "toy/encoder/model.safetensors")
    models = pairs(finished, "stages/*/best/model.safetensors")
    assert len(models) == 7
    for one, two in models:
        one, two = weights.read_safetensors(one), weights.read_safetensors(two)
        names = [k for k in one if k in start and "key.bias" not in k]
        apart, moved = (torch.cat([(one[k] - other[k].float()).flatten() for k in names]).norm()
                        for other in (two, start))
        assert 0 < apart < 0.005 * moved


def test_predictions_and_scores_are_equal(finished):
    same = pairs(finished, "*/predictions/*/*") + pairs(finished, "*/metrics.json")
    assert len(same) == 2 * (6 + 6 + 6 + 5 + 4)        # two arms: files of four targets, their scores
    for one, two in same:
        assert one.read_bytes() == two.read_bytes(), one
    assert (finished[1] / "out-0").read_text() == (finished[2] / "out-0").read_text()


def test_rank_0_alone_writes_and_speaks_and_writes_nothing_twice(finished):
    folder = finished[2]
    assert [(folder / f"{name}-1").read_text() for name in ("out", "err", "writes")] == [""] * 3
    wrote = (folder / "writes-0").read_text().split("\n")
    for path in [path for path in (folder / "runs").rglob("*") if path.is_file()]:
        if path.name in ("DONE", "metrics.json") or "predictions" in path.parts:
            assert wrote.count(f"os.rename {path}") == 1, path
    for log in folder.glob("runs/stages/*/train.jsonl"):
        steps = [row["step"] for row in rows_of(log) if "loss" in row]
        assert steps == [1, 2, 3, 4, 5, 6]
    config = json.loads(next(folder.glob("runs/*/config.json")).read_text())
    assert config["recorded"]["ranks"] == 2


def gradients_of(setup, count: int) -> list:
    loss, norm = train.accumulate(setup, "invented", np.arange(count), 0)
    return [loss, norm, *(p.grad for p in setup.model.parameters())]


@pytest.mark.parametrize("count, dtype", [(1, None), (2, None), (7, None), (1, torch.float16)])
def test_ranks_may_have_no_example_or_unequally_many(tokenizer, tmp_path, count, dtype):
    """In float16 the scale of the loss begins on a rank without an example too."""
    hardware = Hardware(torch.device("cpu"), dtype, 16384)

    def work(rank):
        with ranks.together():
            ranks.BUCKET = 1000                           # of 14,000 gradients
            setup = test_train.make_setup(tokenizer, hardware, dropout=0.0)
            torch.save(gradients_of(setup, count), tmp_path / f"{rank}.pt")
        return 0

    assert forks.Ranks(3, work, tmp_path).wait() == [0, 0, 0]
    alone = gradients_of(test_train.make_setup(tokenizer, hardware, dropout=0.0), count)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(3)]
    for whole, *parts in zip(alone, *found, strict=True):
        whole, *parts = map(torch.as_tensor, (whole, *parts))
        assert torch.allclose(whole, parts[0], rtol=1e-4, atol=1e-6)
        assert torch.equal(parts[0], parts[1]) and torch.equal(parts[0], parts[2])


def test_a_loss_divided_by_the_count_of_one_rank_is_noticed(tokenizer, tmp_path):
    """Negative control of the comparisons above: the mean of the ranks' own means."""
    def work(rank):
        with ranks.together():
            ranks.total = lambda number: number * ranks.size()
            loss = train.accumulate(test_train.make_setup(tokenizer, dropout=0.0), "invented",
                                    np.arange(7), 0)[0]
            (tmp_path / f"{rank}").write_text(str(loss))
        return 0

    assert forks.Ranks(2, work, tmp_path).wait() == [0, 0]
    alone = gradients_of(test_train.make_setup(tokenizer, dropout=0.0), 7)[0]
    assert float((tmp_path / "0").read_text()) != pytest.approx(alone, rel=1e-5)


def test_every_rank_has_dropout_of_its_own_and_rank_0_that_of_one_process(tokenizer, tmp_path):
    def seeds(seen):
        setup = test_train.make_setup(tokenizer)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "manual_seed", seen.append)
            gradients_of(setup, 7)
        return seen

    def work(rank):
        with ranks.together():
            (tmp_path / f"{rank}").write_text(json.dumps(seeds([])))
        return 0

    assert forks.Ranks(2, work, tmp_path).wait() == [0, 0]
    first, second = (json.loads((tmp_path / f"{rank}").read_text()) for rank in range(2))
    assert first == seeds([]) and len(second) == 1 and first != second


def test_answers_of_few_examples_meet_on_all_ranks(tmp_path):
    """Two examples on three ranks: the third has none."""
    def work(rank):
        with ranks.together():
            own = [None, None]
            own[rank:rank + 1] = [("a", f"{rank}")] if rank < 2 else []
            assert ranks.merge(own, 2) == [("a", "0"), ("a", "1")]
            rows = np.full((2, 4), rank + 1, np.float32) if rank < 2 else None
            assert ranks.merge(rows, 2).tolist() == [[1] * 4, [2] * 4]
            assert ranks.gather("ä" * rank) == ["", "ä", "ää"]
            assert ranks.on_first(lambda: f"rank {rank}") == "rank 0"
            assert len(list(ranks.in_step(range(rank)))) == 2
        return 0

    group = forks.Ranks(3, work, tmp_path)
    assert group.wait() == [0, 0, 0], group.said()


def fail_at_step_3(rank: int, who: tuple, problem) -> None:
    """From now on the given ranks raise in their fourth step, or kill themselves."""
    whole = train.accumulate

    def accumulate(setup, name, items, step):
        if step == 3 and rank in who:
            if problem is None:
                os.kill(os.getpid(), signal.SIGKILL)
            raise problem
        return whole(setup, name, items, step)

    train.accumulate = accumulate


@pytest.mark.parametrize("who, problem, codes, words", [
    ((1,), UserError("bad line", "train.tsv", 7), [2, 2], "error: train.tsv:7: bad line\n"),
    ((0, 1), train.NotFinite("step 3"), [3, 3], "error: step 3\n"),
    ((1,), KeyError("a bug"), [2, 1], "KeyError: 'a bug'\n"),
    ((0,), None, [-9, 2], "error: another rank has ended or does not answer; ")],
    ids=("mistake", "not finite", "bug", "killed"))
def test_a_failing_rank_ends_all_with_one_message(tmp_path, who, problem, codes, words):
    def work(rank):
        fail_at_step_3(rank, who, problem)
        return stilts.main([*TRAINING, "--out", str(tmp_path / "runs")])

    group = forks.Ranks(2, work, tmp_path)
    assert group.wait() == codes
    assert group.said().count(words) == 1
    assert group.said().count("error: ") + group.said().count("Traceback") == 1


def test_a_signal_to_one_rank_stops_all_at_one_step(tmp_path):
    command = ["--target", "udpos", "--set", "steps=4000", "--out", str(tmp_path / "runs")]
    group, logs = forks.Ranks(2, lambda rank: stilts.main(command), tmp_path), []
    end = time.monotonic() + 60
    while not any(log.read_text() for log in logs) and time.monotonic() < end:
        time.sleep(0.05)
        logs = list(tmp_path.glob("runs/stages/*/train.jsonl"))
    os.kill(group.ids[1], signal.SIGTERM)
    os.kill(group.ids[1], signal.SIGTERM)                 # torchrun's, after that of a terminal
    assert group.wait() == [143, 143]
    assert group.said().count("saved; the same command goes on") == 1
    (saved,) = tmp_path.glob("runs/stages/*/ckpt/*")
    state = json.loads((saved / "state.json").read_text())
    assert state["step"] > 0 and state["ranks"] == 2


def test_kills_of_a_rank_leave_no_trace():
    command = [sys.executable, ROOT / "tests/kill_resume.py", "--ranks", "2", "--kills", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) >= 2


def test_what_is_not_for_several_ranks_is_refused(tmp_path):
    group = forks.Ranks(2, lambda rank: stilts.main(["--list"]), tmp_path)
    assert group.wait() == [2, 2] and group.said().count("error: several ranks work on") == 1


def test_torchrun_starts_the_same_script(tmp_path):
    arguments = ["--target", "tatoeba", "--limit", "5", "--out"]
    alone = forks.Ranks(1, lambda rank: stilts.main([*arguments, str(tmp_path / "one")]), tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node",
               "2", ROOT / "stilts.py", *arguments, tmp_path / "two"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert alone.wait() == [0] and "| none |" in done.stdout
    assert done.stdout == (tmp_path / "out-0").read_text()

"""The training loop: schedule, accumulation, selection, bad numbers, checkpoints, kill -9."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import checkpoints
import data
import draws
import model
import train
from conftest import ROOT
from predict import Hardware
from files import UserError
from readers import Classification

CPU = Hardware(torch.device("cpu"), None, 16384)
SETTINGS = {"lr": 1e-3, "weight_decay": 0.01, "warmup": 0.1, "clip": 1.0, "beta2": 0.999,
            "mask_rate": 0.15, "random_rate": 0.1, "steps": 0, "evaluations": 5}
LABELS = ("no", "yes")


def make_setup(tokenizer, hardware=CPU, dropout=0.1, seed=1, kind="classification", values=None,
               **settings):
    """A tiny task that can be learnt: the label tells which word the first side has."""
    rng = np.random.default_rng(0)
    words = [p.strip("▁") for p in tokenizer.pieces[20:80]]
    examples = []
    for i in range(60):
        text = " ".join(rng.choice(words, rng.integers(2, 9)))
        label = LABELS[i % 2]
        examples.append(Classification(i, f"{words[i % 2]} {text}", text, label))
    task = SimpleNamespace(kind=kind, search="", name="invented", max_length=40, metric="accuracy")
    features = data.featurize(task, examples, tokenizer, LABELS, train=True)
    values = {"batch_size": 8, "epochs": 2, "robust": "none"} | (values or {})
    part = train.Part(task, LABELS, values, features,
                      draws.Order(features.item_lengths, 8, seed, "invented"))
    part.dev, part.dev_features = examples, features
    config = model.Config(tokenizer.vocab_size, 32, 2, 4, 64, 66, dropout=dropout,
                          attention_dropout=dropout)
    both = model.Model(model.make_encoder(config, seed=3),
                       {"invented": model.make_head(kind, config, 2, seed)})
    return train.make_setup(both, {"invented": part}, SETTINGS | settings, seed, tokenizer, hardware)


def never():
    return 0


def test_the_schedule_is_linear_up_and_down():
    rates = [train.schedule(s, 100, 0.1) for s in range(100)]
    assert rates[0] == 0 and rates[5] == 0.5 and max(rates) == rates[10] == 1
    assert rates[55] == pytest.approx(0.5) and rates[99] == pytest.approx(1 / 90)
    transformers = pytest.importorskip("transformers")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = transformers.get_linear_schedule_with_warmup(optimizer, 10, 100)
    for rate in rates:
        assert theirs.get_last_lr()[0] == pytest.approx(rate)
        theirs.step()


def test_micro_batches_change_rounding_only(tokenizer):
    gradients = []
    for budget in (16384, 60):
        setup = make_setup(tokenizer, Hardware(CPU.device, None, budget), dropout=0.0)
        loss, norm = train.accumulate(setup, "invented", np.arange(20), 0)
        gradients.append([loss, norm, *(p.grad for p in setup.model.parameters())])
    for whole, parts in zip(*gradients):
        assert torch.allclose(torch.as_tensor(whole), torch.as_tensor(parts), rtol=1e-4, atol=1e-6)


def test_dropout_depends_on_seed_and_step_alone(tokenizer):
    def loss(seed, step):
        setup = make_setup(tokenizer, seed=seed)
        torch.rand(seed + step)                                  # the global state does not matter
        return train.accumulate(setup, "invented", np.arange(8), step)[0]
    assert loss(1, 4) == loss(1, 4)
    assert loss(1, 4) != loss(1, 5)


def test_it_learns_and_keeps_the_best_checkpoint(tokenizer, tmp_path):
    setup = make_setup(tokenizer, lr=3e-3)
    outcome = train.train(setup, 60, tmp_path, never)
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().split("\n")[:-1]]
    scores = {row["step"]: row["dev"]["invented"] for row in rows if "dev" in row}
    assert list(scores) == [12, 24, 36, 48, 60]
    first_best = next(step for step, score in scores.items() if score == max(scores.values()))
    assert outcome == {"step": first_best, "dev": {"invented": scores[first_best]}, "degenerate": {}}
    best = tmp_path / "ckpt" / train.checkpoint_name(first_best, True)
    assert best.exists()
    assert max(scores.values()) >= 95
    kept = {p.name for p in (tmp_path / "ckpt").iterdir()}
    assert kept == {best.name, train.checkpoint_name(48, True), train.checkpoint_name(60, True)}


def test_a_stage_repeats_bit_for_bit(tokenizer, tmp_path):
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        train.train(make_setup(tokenizer), 15, tmp_path / name, never)
        files.append((tmp_path / name / "ckpt" / train.checkpoint_name(15, True)))
    for part in ("model.safetensors", "state.safetensors"):
        assert (files[0] / part).read_bytes() == (files[1] / part).read_bytes()


@pytest.mark.parametrize("place", ["weight", "head"])
def test_numbers_that_are_not_finite_stop_before_the_step(tokenizer, tmp_path, place):
    setup = make_setup(tokenizer)
    train.train(setup, 6, tmp_path, never)
    saved = {p: p.read_bytes() for p in (tmp_path / "ckpt").rglob("*.safetensors")}
    poisoned = setup.model.encoder.norm.weight if place == "weight" else \
        setup.model.heads["invented"].out.bias
    resumed = train.resume

    def resume_with_poison(folder, setup):
        state = resumed(folder, setup)
        poisoned.data[0] = torch.inf
        return state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "resume", resume_with_poison)
        with pytest.raises(train.NotFinite, match="step 6 of invented"):
            train.train(setup, 12, tmp_path, never)
    assert json.loads((tmp_path / "failure.json").read_text())["step"] == 6
    assert saved == {p: p.read_bytes() for p in (tmp_path / "ckpt").rglob("*.safetensors")}


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(tokenizer, tmp_path, capsys):
    train.train(make_setup(tokenizer), 15, tmp_path, never)
    newest = tmp_path / "ckpt" / train.checkpoint_name(15, True)
    whole = (newest / "model.safetensors").read_bytes()
    (newest / "model.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))   # one bit
    assert train.resume(tmp_path, make_setup(tokenizer)).step == 12
    assert "damaged" in capsys.readouterr().err and newest.with_name(newest.name + ".bad").exists()
    for folder in checkpoints.complete_checkpoints(tmp_path / "ckpt"):
        (folder / "state.json").unlink()
    with pytest.raises(UserError, match="no checkpoint is whole"):
        train.resume(tmp_path, make_setup(tokenizer))


def test_a_stage_stopped_before_its_first_dev_score_goes_on(tokenizer, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    asked = iter([0, 0, 143])
    with pytest.raises(train.Stopped):
        train.train(make_setup(tokenizer), 12, tmp_path / "a", lambda: next(asked))
    assert train.resume(tmp_path / "a", make_setup(tokenizer)).step == 2
    goes_on, whole = (train.train(make_setup(tokenizer), 12, tmp_path / name, never)
                      for name in ("a", "b"))
    assert goes_on == whole
    best = [tmp_path / name / "ckpt" / train.checkpoint_name(whole["step"], True) / "model.safetensors"
            for name in ("a", "b")]
    assert best[0].read_bytes() == best[1].read_bytes()


def test_the_cap_shortens_mixtures_only(monkeypatch):
    monkeypatch.setattr(train, "CAP", 300)
    part = SimpleNamespace(size=300, order=SimpleNamespace(lengths=np.zeros(5000)),
                           values={"epochs": 2, "batch_size": 24})
    assert train.stage_steps({"one": part}, {"steps": 0}) == 2 * 209
    assert train.stage_steps({"one": part, "two": part}, {"steps": 0}) == 2 * 2 * 13
    assert train.stage_steps({"one": part}, {"steps": 7}) == 7


def test_half_a_line_in_the_journal_is_cut_off(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"step": 3, "loss": 1}\n{"step": 4, "dev": {"a": 3.0}')
    train.Journal(path, train.State(step=9, evaluated=9))
    assert path.read_text() == '{"step": 3, "loss": 1}\n'


def test_tasks_are_drawn_in_proportion_to_capped_sizes(monkeypatch):
    monkeypatch.setattr(train, "CAP", 300)
    parts = {n: SimpleNamespace(size=min(s, train.CAP)) for n, s in
             {"small": 100, "large": 5000}.items()}
    drawn = [train.choose_task(parts, 1, s) for s in range(4000)]
    assert drawn.count("large") / 4000 == pytest.approx(0.75, abs=0.02)
    assert drawn == [train.choose_task(parts, 1, s) for s in range(4000)]


def test_kills_at_drawn_moments_leave_no_trace():
    done = subprocess.run([sys.executable, ROOT / "tests/kill_resume.py", "--kills", "20"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) >= 20


@pytest.mark.parametrize("what", ["moments", "counters"])
def test_a_resume_that_forgets_something_is_noticed(what):
    """Negative control: the comparison above can fail."""
    done = subprocess.run([sys.executable, ROOT / "tests/kill_resume.py", "--kills", "6", "--break",
                           what], capture_output=True, text=True)
    assert done.returncode == 1 and "differ" in done.stdout, done.stdout + done.stderr


def test_a_loss_that_does_not_fall_is_flat(tmp_path):
    def flat(losses, kind="classification"):
        rows = [{"step": i, "task": "invented", "loss": loss} for i, loss in enumerate(losses)]
        (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"dev": {}}])))
        parts = {"invented": SimpleNamespace(task=SimpleNamespace(kind=kind))}
        return train.flat_losses(parts, tmp_path / "train.jsonl")

    stuck = [1.10 + 0.01 * (i % 2) for i in range(100)]
    assert flat(stuck) == {"invented": "flat loss, 1.105 to 1.105"}
    assert flat([1.1 - 0.005 * i for i in range(100)]) == {} == flat(stuck, "mlm")
    assert flat(stuck[:39]) == {}                                  # too few to tell

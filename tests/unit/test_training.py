"""The training loop: schedules by hand, exact resume, kill -9, divergence."""

import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from engram.core import EngramError, stream
from engram.parts import training as parts
from engram.parts.training import Checkpoint, Epochs, Plan, Training, adamw, fit, learning_rate


@dataclass(frozen=True)
class FakeRun:
    """The little of a run that training needs; it is never asked for anything else."""

    scratch: Path
    seed: int = 0
    device: str = "cpu"

    def tokens(self, *_):
        raise NotImplementedError

    losses = logits = computed = fit = shadows = retrained = sampler = records = target = tokens

    def stream(self, *path):
        return stream(self.seed, *path)

    def log(self, **entry):
        pass

    def progress(self, done, total, what):
        assert 0 <= done <= total


class Points:
    """Examples of a linear regression, with a unit-variance Gaussian likelihood."""

    answers = 2

    def __init__(self, model):
        rng = np.random.default_rng(0)
        self.model, self.counts = model, np.ones(20, np.int64)
        self.x = torch.from_numpy(rng.normal(size=(20, 3)).astype(np.float32))

    def nll(self, rows):
        return (self.model(self.x[rows]) - self.x[rows].sum(1, keepdim=True)).pow(2).sum(1)

    def chunks(self, rows):
        yield from (rows[:2], rows[2:]) if len(rows) > 2 else (rows,)

    def order(self, batch_size, rng):
        return parts.shuffled_batches(self.counts, batch_size, rng)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.LayerNorm(8), nn.Linear(8, 1))


def start(run, steps=30, **fields):
    model = network()
    points = Points(model)
    epochs = Epochs(points, 4, run)
    training = Training(model, Plan(steps, 0.01, **fields), run, "key", epochs.per_epoch)
    return training, training.steps(lambda n: parts.batch_loss(points, epochs.rows(n)))


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_learning_rates_worked_out_by_hand():
    linear = Plan(10, 1.0, warmup=0.2, schedule="linear")
    expected = [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    assert [learning_rate(linear, s) for s in range(10)] == pytest.approx(expected)
    cosine = Plan(4, 2.0, schedule="cosine")
    expected = [2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5)]
    assert [learning_rate(cosine, s) for s in range(4)] == pytest.approx(expected)
    assert {learning_rate(Plan(7, 0.5), s) for s in range(7)} == {0.5}


def test_fit_hands_control_back_and_a_break_stops_it():
    taken = []
    for step in fit(range(10), lambda n: parts.Step(taken.append(n) or n, 0.0, 0.0)):
        if step.number == 3:
            break
    assert taken == [0, 1, 2, 3]


def test_weight_decay_spares_biases_and_norms():
    model = network()
    decayed, spared = adamw(model, Plan(1, 0.1, weight_decay=0.5)).param_groups
    assert decayed["weight_decay"] == 0.5
    assert spared["weight_decay"] == 0
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in spared["params"]} == {1}


def test_one_step_of_adamw_by_hand(tmp_path):
    """The first step moves every weight by the rate against its gradient's sign, and decays."""
    model = nn.Linear(2, 1)
    nn.init.constant_(model.weight, 2.0)
    plan = Plan(1, 0.1, weight_decay=0.5, clip=0.0)
    loss = lambda _: [(model.weight * torch.tensor([[3.0, -4.0]])).sum() + 5 * model.bias.sum()]  # noqa: E731
    before = float(model.bias.detach())
    list(Training(model, plan, FakeRun(tmp_path), "k").steps(loss))
    expected = 2 * (1 - 0.1 * 0.5) - 0.1 * np.array([1, -1])
    np.testing.assert_allclose(model.weight.detach().numpy()[0], expected, rtol=1e-6)
    np.testing.assert_allclose(model.bias.detach().numpy(), [before - 0.1], rtol=1e-5)


def test_a_batch_in_parts_has_the_gradient_of_the_batch(tmp_path):
    model = network().eval()
    points, rows = Points(model), np.arange(7)
    sum(parts.batch_loss(points, rows)).backward()
    in_parts = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    points.nll(rows).mean().backward()
    for got, parameter in zip(in_parts, model.parameters(), strict=True):
        torch.testing.assert_close(got, parameter.grad)


def test_training_lowers_the_loss_and_leaves_a_trace(tmp_path):
    training, steps = start(FakeRun(tmp_path), steps=60, schedule="cosine")
    losses = [s.loss for s in steps]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) / 2
    assert [e["step"] for e in training.trace] == list(range(60))
    assert training.trace[-1]["epoch"] == 12
    assert training.trace[0]["lr"] == 0.01
    assert not training.model.training


def test_a_long_trace_is_thinned_but_keeps_the_last_step(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "TRACED", 10)
    training, steps = start(FakeRun(tmp_path), steps=25)
    list(steps)
    assert [e["step"] for e in training.trace] == [0, 3, 6, 9, 12, 15, 18, 21, 24]


@pytest.mark.parametrize("stop", [1, 7, 28])
def test_resumes_bit_for_bit(tmp_path, monkeypatch, stop):
    """Dropout, the order of batches, momentum and the trace go on as if nothing had happened."""
    whole, steps = start(FakeRun(tmp_path / "whole"))
    list(steps)
    monkeypatch.setattr(parts, "PAUSE", 0.0)
    monkeypatch.setattr(parts, "SHARE", math.inf)
    killed, steps = start(FakeRun(tmp_path / "killed"))
    for step in steps:
        if step.number == stop:
            break
    assert not torch.equal(flat(killed.model), flat(whole.model))
    again, steps = start(FakeRun(tmp_path / "killed"))
    assert next(steps).number == stop  # this step had been taken but not yet saved
    list(steps)
    assert torch.equal(flat(again.model), flat(whole.model))
    assert again.trace == whole.trace


def test_global_randomness_is_left_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(start(FakeRun(tmp_path), steps=3)[1])
    assert torch.equal(torch.rand(3), expected)


def test_a_checkpoint_of_other_inputs_or_a_damaged_one_is_passed_over(tmp_path):
    model = network()
    optimiser = adamw(model, Plan(1, 0.1))
    saved = Checkpoint(tmp_path / "c.safetensors", "one")
    saved.save(4, model, optimiser, [])
    assert saved.restore(model, optimiser)[0] == 4
    assert Checkpoint(saved.path, "two").restore(model, optimiser) == (0, [])
    saved.path.write_bytes(saved.path.read_bytes()[:-9])
    assert saved.restore(model, optimiser) == (0, [])


def test_a_failed_save_keeps_the_checkpoint_before_it(tmp_path, monkeypatch):
    model = network()
    optimiser = adamw(model, Plan(1, 0.1))
    saved = Checkpoint(tmp_path / "c.safetensors", "one")
    saved.save(4, model, optimiser, [])

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        saved.save(5, model, optimiser, [])
    assert saved.restore(model, optimiser)[0] == 4
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_divergence_is_an_error_with_a_remedy(tmp_path):
    model = nn.Linear(1, 1)
    training = Training(model, Plan(5, 0.01), FakeRun(tmp_path), "k")
    with pytest.raises(EngramError, match="diverged: at step 3 of 5") as caught:
        list(training.steps(lambda n: [model.weight.sum() * (math.nan if n == 2 else 1)]))
    assert "learning-rate" in caught.value.hint


@pytest.mark.parametrize(
    "fields",
    [
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"warmup": 1.0},
        {"warmup": -0.1},
        {"clip": -1.0},
        {"weight_decay": math.inf},
    ],
)
def test_bad_plans_are_refused(fields):
    with pytest.raises(EngramError) as caught:
        Plan(**{"steps": 3, "learning_rate": 0.1, **fields})
    assert caught.value.hint


@dataclass(frozen=True)
class DeadlyRun(FakeRun):
    """Kills its own process, as `kill -9` does, once `kill_at` steps are done and some saved."""

    kill_at: int = 0

    def progress(self, done, total, what):
        if done >= self.kill_at and (self.scratch / parts.FILE).exists():
            os.kill(os.getpid(), signal.SIGKILL)


def pretrained(run):
    """A tiny language model with dropout, and its trace."""
    from engram.core import Split
    from engram.methods.recipes.pretrain_lm import PretrainLm

    texts = [f"letter {i} of {i * 7919 % 101} words to {'abcdefgh'[i % 8] * 3}" for i in range(24)]
    recipe = PretrainLm(
        vocabulary=300, layers=1, width=16, heads=2, context=32, epochs=4, batch_size=4, dropout=0.2
    )
    draft = recipe(Split.of("t", text=texts), run)
    return flat(draft.model.model), draft.trace


def test_a_recipe_killed_by_sigkill_ends_in_the_same_weights(tmp_path):
    done = subprocess.run([sys.executable, __file__, tmp_path / "killed"], check=False)
    assert done.returncode == -signal.SIGKILL
    saved = tmp_path / "killed" / parts.FILE
    saved.with_suffix(".part").write_bytes(b"as if it had died while it was writing")
    with safe_open(saved, "pt") as file:
        assert 0 < int(file.metadata()["done"]) < 24
    weights, trace = pretrained(FakeRun(tmp_path / "killed"))
    whole, whole_trace = pretrained(FakeRun(tmp_path / "whole"))
    assert torch.equal(weights, whole)
    assert trace == whole_trace


if __name__ == "__main__":  # the process that dies
    parts.PAUSE, parts.SHARE = 0.0, math.inf
    pretrained(DeadlyRun(Path(sys.argv[1]), kill_at=9))

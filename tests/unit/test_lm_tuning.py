"""The engine of fine-tuning: micro-batches, and somebody who looks on, through crashes too."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from engram.core import Draft, Paper, Split, Target, stream
from engram.families import causal_lm
from engram.parts import training as parts
from engram.parts.lm_tuning import Tuning, tune
from engram.parts.observation import Monitor, observations

TEXTS = [f"Patient {i} of ward {'ABCD'[i % 4]} came on day {i * 37 % 29}." for i in range(16)]
SMALL = {"vocabulary": 300, "layers": 2, "width": 16, "heads": 2, "context": 32}


@dataclass(frozen=True)
class FakeRun:
    """Random streams, a scratch folder and named targets; asked for answers, it fails."""

    scratch: Path
    seed: int = 0
    device: str = "cpu"
    others: dict = field(default_factory=dict)
    logged: list = field(default_factory=list)

    def stream(self, *path):
        return stream(self.seed, *path)

    def log(self, **entry):
        self.logged.append(entry)

    def progress(self, done, total, what):
        assert 0 <= done <= total

    def target(self, where):
        return self.others[where]

    def tokens(self, *_):
        raise NotImplementedError

    losses = logits = computed = fit = shadows = sampler = records = tokens


class DeadError(Exception):
    """The process was killed."""


@dataclass(frozen=True)
class Eye:
    """Notes one weight; best where that is largest; stops after `limit` looks."""

    limit: int = 99
    dies_at: int = -1

    def look(self, lm, step, epoch):
        if step == self.dies_at:
            raise DeadError
        assert not lm.model.training
        return {"weight": float(next(lm.model.parameters()).detach()[3, 3])}

    def stop(self, trace):
        return len(trace) >= self.limit

    def best(self, trace):
        return int(np.argmax([entry["weight"] for entry in trace]))


@dataclass(frozen=True)
class Watched(Tuning):
    """Tuning with an eye on it."""

    paper: ClassVar[Paper] = Paper("t", "a", 2000, "https://example.org")
    limit: int = 99
    """Looks."""
    dies_at: int = -1
    """Where the process is killed; not a part of the key of these tests."""

    def monitor(self, lm, split, run):
        return Eye(self.limit, self.dies_at)

    def __call__(self, split, run) -> Draft:
        return tune(self, split, run)


@pytest.fixture(scope="module")
def base():
    lm = causal_lm.tiny(TEXTS, seed=3, dropout=0.1, **SMALL)
    return Target("base", "causal-lm", lm, causal_lm.FAMILY.fingerprint(lm))


@pytest.fixture(scope="module")
def texts():
    return Split.of("texts", text=TEXTS)


def flat(draft):
    return torch.cat([p.detach().flatten() for p in draft.model.model.parameters()])


def watched(**fields):
    given = {"base": "base", "epochs": 4, "batch_size": 4, "learning_rate": 3e-3}
    return Watched(**{**given, **fields})


def test_a_monitor_looks_before_training_and_after_each_epoch(texts, base, tmp_path):
    run = FakeRun(tmp_path, others={"base": base})
    assert isinstance(Eye(), Monitor)
    draft = watched()(texts, run)
    seen = observations(draft.trace)
    assert [entry["step"] for entry in seen] == [0, 4, 8, 12, 16]
    assert [entry["epoch"] for entry in seen] == [0, 1, 2, 3, 4]
    assert seen[0]["weight"] == float(next(base.model.model.parameters()).detach()[3, 3])
    assert run.logged == list(draft.trace)
    # The best weights are kept, not the last.
    kept = float(next(draft.model.model.parameters()).detach()[3, 3])
    assert kept == max(entry["weight"] for entry in seen)


def test_looking_changes_nothing_and_steps_between_looks_are_chosen(texts, base, tmp_path):
    class Blind(Watched):
        def monitor(self, lm, split, run):
            return None

    class LastKept(Eye):
        def best(self, trace):
            return None

    class Last(Watched):
        def monitor(self, lm, split, run):
            return LastKept()

    fields = {"base": "base", "epochs": 2, "batch_size": 4, "learning_rate": 1e-3}
    blind = Blind(**fields)(texts, FakeRun(tmp_path / "1", others={"base": base}))
    last = Last(**fields, observe_every=3)(texts, FakeRun(tmp_path / "2", others={"base": base}))
    assert torch.equal(flat(blind), flat(last))
    assert [e["step"] for e in observations(last.trace)] == [0, 3, 6, 8]
    assert not observations(blind.trace)


def test_a_monitor_stops_training(texts, base, tmp_path):
    draft = watched(limit=3)(texts, FakeRun(tmp_path, others={"base": base}))
    assert [entry["step"] for entry in observations(draft.trace)] == [0, 4, 8]
    assert max(entry["step"] for entry in draft.trace if "loss" in entry) == 7


@pytest.mark.parametrize("dies_at", [4, 8, 16])
def test_observations_and_best_weights_survive_a_crash(texts, base, tmp_path, monkeypatch, dies_at):
    monkeypatch.setattr(parts, "PAUSE", 0.0)
    monkeypatch.setattr(parts, "SHARE", math.inf)
    monkeypatch.setattr(
        "engram.parts.lm_tuning.key_of", lambda recipe, *rest: f"{recipe.epochs} {rest}"
    )
    whole = watched()(texts, FakeRun(tmp_path / "whole", others={"base": base}))
    killed = FakeRun(tmp_path / "killed", others={"base": base})
    with pytest.raises(DeadError):
        watched(dies_at=dies_at)(texts, killed)
    again = watched()(texts, killed)
    assert torch.equal(flat(again), flat(whole))
    assert again.trace == whole.trace


@pytest.mark.parametrize("accumulate", [2, 3, 8])
def test_micro_batches_have_the_gradient_of_the_batch(texts, base, tmp_path, accumulate):
    """Pieces of unequal length: a mean of means would be something else."""
    uneven = Split.of("uneven", text=[text * (1 + i % 3) for i, text in enumerate(TEXTS)])
    found = []
    for parts_of_step in (1, accumulate):
        recipe = Plain(base="base", epochs=1, batch_size=8, accumulate=parts_of_step, clip=0.0)
        recipe(uneven, FakeRun(tmp_path / str(parts_of_step), others={"base": base}))
        found.append(Plain.gradients[:])
        Plain.gradients.clear()
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


class Plain(Tuning):
    """Tuning that keeps the gradient of every step (with dropout off)."""

    gradients: ClassVar[list] = []

    def __call__(self, split, run):
        before = parts.Training._update

        def update(training, number, optimiser, loss):
            training.model.train = lambda mode=True: training.model
            step = before(training, number, optimiser, loss)
            Plain.gradients.append(
                torch.cat([p.grad.flatten() for p in training.model.parameters()]).clone()
            )
            return step

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parts.Training, "_update", update)
            return tune(self, split, run)

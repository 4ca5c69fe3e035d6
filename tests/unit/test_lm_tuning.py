"""The engine of fine-tuning: micro-batches, and somebody who looks on, through crashes too."""

import json
import math
import multiprocessing
import os
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from engram.core import DivergedError, Draft, EngramError, Paper, Split, Target, stream
from engram.families import causal_lm
from engram.methods.recipes.finetune_lm import FinetuneLm
from engram.parts import training as parts
from engram.parts.lm_tuning import Tuning, examples_of, tune
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

    losses = logits = computed = fit = shadows = sampler = records = retrained = tokens
    validation = None


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


def one_of_two(number, port, scratch, base, texts, fields):
    """One process of two that train together; what it ended in is written by its number."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {**address, "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2"}
    draft = watched(**fields)(texts, FakeRun(scratch, others={"base": base}))
    torch.distributed.barrier()
    weights = {"weights": flat(draft).contiguous()}
    save_file(weights, scratch / f"{number}.safetensors", {"trace": json.dumps(draft.trace)})


@pytest.mark.parametrize("fields", [{}, {"accumulate": 2, "batch_size": 5, "limit": 3}])
def test_two_processes_end_where_one_does(texts, base, tmp_path, fields):
    """Gloo on one machine, by accelerate; the last batch of five is uneven, and one is alone."""
    fields = {**fields, "dropout": 0.0, "learning_rate": 1e-3, "epochs": 3}
    whole = watched(**fields)(texts, FakeRun(tmp_path / "one", others={"base": base}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = tmp_path / "two"
    both.mkdir()
    fork = multiprocessing.get_context("fork")
    started = [
        fork.Process(target=one_of_two, args=(k, port, both, base, texts, fields)) for k in (0, 1)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
        assert process.exitcode == 0
    for number in (0, 1):
        with safe_open(both / f"{number}.safetensors", "pt") as file:
            torch.testing.assert_close(file.get_tensor("weights"), flat(whole), rtol=0, atol=1e-6)
            trace = json.loads(file.metadata()["trace"])
        for found, expected in zip(trace, whole.trace, strict=True):
            assert found == pytest.approx(expected, abs=1e-5)


RESUMED = {
    "base": "base", "epochs": 3, "batch_size": 6, "accumulate": 3, "learning_rate": 1e-3,
    "dropout": 0.2, "rank": 2, "reduction": 4,
}  # fmt: skip


class DeadlyRun(FakeRun):
    """Killed, as by the system, when step `dies_at` was taken."""

    dies_at = 0

    def progress(self, done, total, what):
        if done == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("method", "step"), [("full", 2), ("adapter", 4), ("lora", 7)])
def test_a_killed_process_resumes_to_the_same_weights(
    texts, base, tmp_path, monkeypatch, method, step
):
    """SIGKILL in the middle of an epoch, with dropout, accumulation and (for two) adapters."""
    monkeypatch.setattr(parts, "PAUSE", 0.0)
    monkeypatch.setattr(parts, "SHARE", math.inf)
    monkeypatch.setattr(DeadlyRun, "dies_at", step)
    recipe = FinetuneLm(**RESUMED, method=method)
    whole = recipe(texts, FakeRun(tmp_path / "whole", others={"base": base}))
    killed = DeadlyRun(tmp_path / "killed", others={"base": base})
    process = multiprocessing.get_context("fork").Process(target=recipe, args=(texts, killed))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    with safe_open(killed.scratch / parts.FILE, "pt") as file:
        assert 0 < int(file.metadata()["done"]) <= step
    again = recipe(texts, FakeRun(killed.scratch, others={"base": base}))
    assert torch.equal(flat(again), flat(whole))
    assert again.trace == whole.trace


def test_responses_alone_and_smoothing_are_fields(base, tmp_path):
    split = Split.of("pairs", text=[f"{t} so: {t[:9]}" for t in TEXTS])
    recipe = watched(response_template="so:", label_smoothing=0.2, epochs=1)
    draft = recipe(split, FakeRun(tmp_path, others={"base": base}))
    examples = examples_of(recipe, draft.model, split)
    assert examples.smoothing == 0.2
    assert (examples.counts < examples.lengths - 1).all()


def test_dropout_is_set_while_training_alone(texts, base, tmp_path):
    drops = [m for m in base.model.model.modules() if isinstance(m, torch.nn.Dropout)]
    assert {m.p for m in drops} == {0.1}
    seen = []

    class Looks(Watched):
        def monitor(self, lm, split, run):
            return None

    def objective(lm, base, examples, run):
        def loss(lm, examples, rows):
            seen.append({m.p for m in lm.model.modules() if isinstance(m, torch.nn.Dropout)})
            return parts.batch_loss(examples, rows)

        return loss

    recipe = Looks(base="base", epochs=1, dropout=0.4)
    draft = tune(recipe, texts, FakeRun(tmp_path, others={"base": base}), objective)
    after = {m.p for m in draft.model.model.modules() if isinstance(m, torch.nn.Dropout)}
    assert (seen[0], after) == ({0.4}, {0.1})


def test_bf16_keeps_float32_weights(texts, base, tmp_path):
    kinds = []

    def objective(lm, base, examples, run):
        def loss(lm, examples, rows):
            logits = lm.model(input_ids=torch.tensor([[5, 6]])).logits
            kinds.append((logits.dtype, next(lm.model.parameters()).dtype))
            return parts.batch_loss(examples, rows)

        return loss

    for precision, kind in (("bf16", torch.bfloat16), ("auto", torch.float32)):
        recipe = FinetuneLm(base="base", epochs=1, precision=precision)
        run = FakeRun(tmp_path / precision, others={"base": base})
        draft = tune(recipe, texts, run, objective)
        assert kinds.pop() == (kind, torch.float32)
        assert draft.trace[-1]["loss"] < 7


@pytest.mark.parametrize("pause", [0.0, 1e9])
def test_a_diverged_training_names_step_and_records_and_keeps_weights(
    texts, base, tmp_path, monkeypatch, pause
):
    monkeypatch.setattr(parts, "PAUSE", pause)
    monkeypatch.setattr(parts, "SHARE", math.inf)

    def objective(lm, base, examples, run):
        def loss(lm, examples, rows):
            for part in parts.batch_loss(examples, rows):
                loss.steps += 1
                yield part * (math.nan if loss.steps == 3 else 1.0)

        loss.steps = 0
        return loss

    recipe = FinetuneLm(base="base", epochs=2, batch_size=4, learning_rate=1e-3)
    run = FakeRun(tmp_path, others={"base": base})
    with pytest.raises(DivergedError, match="at step 3 of 8 the loss is nan") as caught:
        tune(recipe, texts, run, objective)
    assert caught.value.step == 2
    named = [record for record in texts.ids if record in str(caught.value)]
    assert len(named) == 4
    assert "its batch holds 4 records" in str(caught.value)
    folder = tmp_path / "last-good"
    if pause:
        assert "no checkpoint was due yet" in caught.value.hint
        return
    assert f"the weights after 1 steps are a model in {folder}" in caught.value.hint
    kept = causal_lm.FAMILY.load(folder)
    assert all(torch.isfinite(p).all() for p in kept.model.parameters())
    assert not torch.equal(flat(Draft("causal-lm", kept)), flat(Draft("causal-lm", base.model)))
    # A lower rate goes on from there.
    lower = FinetuneLm(base="kept", epochs=1, batch_size=4, learning_rate=1e-4)
    target = Target("kept", "causal-lm", kept, "kept")
    lower(texts, FakeRun(tmp_path / "lower", others={"kept": target}))


@pytest.mark.parametrize(
    ("fields", "fact"),
    [
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"virtual_tokens": 0}, "virtual_tokens is 0"),
    ],
)
def test_bad_fields_are_refused(fields, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        FinetuneLm(**fields)
    assert caught.value.hint


def test_a_batch_larger_than_the_data_is_refused(texts, base, tmp_path):
    with pytest.raises(EngramError, match="batch_size is 17, but split 'texts' has 16 records"):
        FinetuneLm(base="base", batch_size=17)(texts, FakeRun(tmp_path, others={"base": base}))

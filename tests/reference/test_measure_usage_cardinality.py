"""`usage-cardinality`: the true share lies in its interval, and nothing is claimed unfairly."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from engram.core import EngramError, Split, Target, TokenSignals, stream, torch_seeded
from engram.families import find
from engram.families.classifier import ClassifierModel
from engram.methods.measures import usage_cardinality
from engram.methods.measures.usage_cardinality import CHECK, LEAST, NAME, UsageCardinality
from engram.parts.networks import Layout

with torch_seeded(0, "network"):
    NETWORK = ClassifierModel(Layout("mlp", (4,), 2, 4, 1).build().eval())
MODEL = Target("network", "classifier", NETWORK, "network")


@dataclass(frozen=True)
class MadeUpRun:
    """A classifier of two classes that is surer of records that it saw, by `effect` logits."""

    effect: float = 2.0
    used: frozenset = frozenset()
    others: dict = field(default_factory=dict)
    seed: int = 0
    scratch: Path = Path()
    device: str = "cpu"

    def stream(self, *path):
        return stream(self.seed, *path)

    def logits(self, target, split):
        sure = np.array([stream(0, "sure", i).normal() for i in split.ids])
        sure += self.effect * np.array([i in self.used for i in split.ids])
        sign = np.where(split.matrix("label") == 1, 1.0, -1.0)
        return np.stack([-sign * sure, sign * sure], 1) / 2

    def records(self, where, target=None):
        return self.others[where]

    def log(self, **entry):
        pass

    def progress(self, done, total, what):
        pass

    def tokens(self, *_):
        raise NotImplementedError

    losses = computed = fit = shadows = retrained = sampler = target = tokens


def arrays(name, n, seed=0, shift=0.0):
    rng = stream(seed, "arrays", name)
    features = (rng.normal(size=(n, 4)) + shift).astype(np.float32)
    ids = [f"{seed} {name} {i}" for i in range(n)]
    return Split.of(name, features=features, label=rng.integers(0, 2, n), ids=ids)


def scene(truth, seed=0, n=160, effect=2.0, **changed):
    """Known sides, a set of which a share was used, and a model that knows."""
    splits = {name: arrays(name, n, seed) for name in ("members", "outsiders")}
    suspect = arrays("suspect", n, seed) if "suspect" not in changed else changed["suspect"]
    taken = suspect.ids[: round(truth * len(suspect))]
    seen = frozenset((*splits["members"].ids, *taken))
    return splits, MadeUpRun(effect, seen, {"file": suspect}, seed)


@pytest.fixture
def unaudited(monkeypatch):
    """Without the blind comparison, which these records pass and which takes its time."""
    monkeypatch.setattr(usage_cardinality, "told_apart", lambda one, other, rng: ("", ""))


@pytest.mark.parametrize("truth", [0.0, 0.3, 1.0])
def test_the_interval_covers_the_share_that_was_used(truth, unaudited):
    hits = 0
    for seed in range(20):
        splits, run = scene(truth, seed, n=60)
        (found,) = UsageCardinality(suspect="file")(MODEL, splits, run)
        hits += found.low <= truth <= found.high
    assert hits >= 20 * 0.95 - 3 * np.sqrt(20 * 0.95 * 0.05)


def test_a_set_from_a_file():
    splits, run = scene(0.5)
    (found,) = UsageCardinality(suspect="file")(MODEL, splits, run)
    assert (found.name, found.n, found.split) == (NAME, 160, "suspect")
    assert found.low <= 0.5 <= found.high
    assert found.high - found.low < 0.5
    assert "TPR - FPR of the guess is 0." in found.note
    assert "95 % interval" in found.note
    (wider,) = UsageCardinality(suspect="file", confidence=0.999)(MODEL, splits, run)
    assert wider.high - wider.low > found.high - found.low


def test_without_a_file_it_checks_itself():
    splits, run = scene(0.0, n=200)
    (found,) = UsageCardinality()(MODEL, splits, run)
    assert found.name == CHECK
    assert found.n == 200  # half of 400
    assert "true share is 0.500" in found.note
    assert found.low <= 0.5 <= found.high
    assert found.high - found.low < 0.6


def test_without_known_members_there_is_a_lower_bound():
    splits, run = scene(0.9, n=400, effect=6.0)
    (found,) = UsageCardinality(suspect="file")(MODEL, {"outsiders": splits["outsiders"]}, run)
    assert found.name == LEAST
    assert 0.6 < found.value == found.low <= 0.9
    assert found.high == 1.0
    (nothing,) = UsageCardinality()(MODEL, {"outsiders": splits["outsiders"]}, run)
    assert "name a set with --suspect" in nothing.note
    copies = Split.of("copies", features=np.zeros((9, 4), np.float32), label=np.zeros(9, int))
    _, run = scene(0.0, suspect=copies)
    (refused,) = UsageCardinality(suspect="file")(MODEL, {"outsiders": splits["outsiders"]}, run)
    assert refused.value is None


def test_a_set_of_another_kind_is_refused():
    splits, run = scene(0.5, suspect=arrays("far", 100, shift=5.0))
    (found,) = UsageCardinality(suspect="file")(MODEL, splits, run)
    assert found.value is None
    assert "of another kind than the outsiders" in found.note


def test_a_model_that_remembers_nothing_gives_no_share(unaudited):
    """Then the interval is nearly all of [0, 1], or guesses are said to be chance."""
    widths = []
    for seed in range(10):
        splits, run = scene(0.5, seed, effect=0.0)
        (found,) = UsageCardinality(suspect="file")(MODEL, splits, run)
        if found.value is None:
            assert "no better than chance" in found.note
        else:
            widths.append(found.high - found.low)
    assert np.median(widths) > 0.9


def test_records_that_are_known_already_are_refused():
    splits, run = scene(0.5, suspect=arrays("members", 20))
    with pytest.raises(EngramError, match="20 records are in both"):
        UsageCardinality(suspect="file")(MODEL, splits, run)


def test_records_that_the_model_cannot_be_asked_about_are_left_out(lms):
    class Texts(MadeUpRun):
        def tokens(self, target, split):
            pieces = [stream(0, "t", i).normal(size=9) - 3.0 for i in split.ids]
            offsets = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
            logprob = np.concatenate(pieces)
            return TokenSignals(split.ids, offsets, np.zeros(len(logprob), np.int64), logprob)

    lm = Target("tiny", "causal-lm", lms[0], "tiny")
    splits = {
        s: Split.of(s, text=[f"{s} {i}" for i in range(20)]) for s in ("members", "outsiders")
    }
    suspect = Split.of("suspect", text=["", *(f"text {i}" for i in range(6))])
    run = Texts(others={"file": suspect, "none": Split.of("none", text=[""])})
    (found,) = UsageCardinality(suspect="file")(lm, splits, run)
    assert found.n == len(find("causal-lm").outcomes(lm.model, suspect)) - 1
    with pytest.raises(EngramError, match="none of the 1 records"):
        UsageCardinality(suspect="none")(lm, splits, run)


def test_a_file_of_records_of_another_width_is_an_error():
    wide = Split.of("wide", features=np.zeros((5, 7), np.float32), label=np.zeros(5, int))
    splits, run = scene(0.5, suspect=wide)
    with pytest.raises(EngramError, match="have 4 features, but the model takes 7"):
        UsageCardinality(suspect="file")(MODEL, splits, run)


def test_a_file_of_other_columns_is_an_error():
    splits, run = scene(0.5, suspect=Split.of("texts", text=["a", "b"]))
    with pytest.raises(EngramError, match="no column 'label'"):
        UsageCardinality(suspect="file")(MODEL, splits, run)


@pytest.mark.parametrize(
    ("sizes", "fact"),
    [
        ({}, "no outsiders are known"),
        ({"members": 30}, "no outsiders are known"),
        ({"members": 30, "outsiders": 9}, "too few outsiders"),
        ({"members": 6, "outsiders": 30}, "too few members"),
    ],
)
def test_what_is_missing_is_said(sizes, fact):
    splits = {name: arrays(name, n) for name, n in sizes.items()}
    (found,) = UsageCardinality()(MODEL, splits, MadeUpRun())
    assert found.value is None
    assert fact in found.note


def test_a_set_of_one_record_has_no_share(unaudited):
    splits, run = scene(1.0, suspect=arrays("suspect", 1))
    (found,) = UsageCardinality(suspect="file")(MODEL, splits, run)
    assert "fewer than two records" in found.note


def test_refuses_a_confidence_that_is_none():
    with pytest.raises(EngramError, match="confidence is 1"):
        UsageCardinality(confidence=1.0)


def test_works_on_a_real_network():
    splits, run = scene(0.5, n=40)

    class Asking(MadeUpRun):
        def logits(self, target, split):
            return find("classifier").logits(target.model, split)

    (found,) = UsageCardinality(suspect="file")(MODEL, splits, Asking(others=run.others))
    assert found.value is None or found.high - found.low > 0.3

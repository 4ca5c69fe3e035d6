"""`epsilon-lower-bound` on models that are private and on models that learn by heart."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from engram.core import EngramError, Lineage, Split, Target, stream
from engram.families import find
from engram.methods.measures.epsilon_lower_bound import EXCHANGE, EpsilonLowerBound
from engram.methods.recipes.dp_train_classifier import DpTrainClassifier
from engram.methods.recipes.train_classifier import TrainClassifier
from engram.parts import dp_sgd
from engram.parts.chance_units import matched, units_of
from engram.parts.partition import choose
from engram.stats.epsilon import NAME

CANARIES, OTHERS, WIDTH = 160, 60, 20
NOISE, EPOCHS = 10.0, 20


@dataclass(frozen=True)
class PlainRun:
    """Trains and asks classifiers; `losses_of` overrides what a model answers."""

    scratch: Path
    seed: int = 0
    device: str = "cpu"
    losses_of: dict = field(default_factory=dict)
    others: dict = field(default_factory=dict)

    def stream(self, *path):
        return stream(self.seed, *path)

    def losses(self, target, split):
        if target.name in self.losses_of:
            return np.array([self.losses_of[target.name][i] for i in split.ids])
        return find(target.family).losses(target.model, split)

    def target(self, where):
        return self.others[where]

    def log(self, **entry):
        pass

    def progress(self, done, total, what):
        pass

    def tokens(self, *_):
        raise NotImplementedError

    logits = computed = fit = shadows = retrained = sampler = records = tokens


def records(seed=0):
    """Two classes that are easy to tell, and canaries of noise whose labels mean nothing."""
    rng = stream(seed, "records")
    label = np.arange(OTHERS) % 2
    features = (2.0 * label[:, None] - 1) + 0.5 * rng.normal(size=(OTHERS, WIDTH))
    made_up = rng.normal(size=(CANARIES, WIDTH))
    features = np.concatenate([features, made_up]).astype(np.float32)
    labels = np.concatenate([label, rng.integers(0, 2, CANARIES)])
    plain = Split.of("records", features=features, label=labels)
    return replace(plain, canaries=tuple(row >= OTHERS for row in range(len(plain))))


def trained(recipe, run, seed=0):
    """As the engine does it: hold out half by lot, train on the rest."""
    data = records(seed)
    inside = choose(data, 0.5, stream(seed, "hold-out"))
    draft = recipe(data.where(inside), run)
    target = Target("model", draft.family, draft.model, f"model-{seed}")
    sides = {"members": data.where(inside), "outsiders": data.where(~inside)}
    return target, sides


def fake(scores, inside, **columns):
    """A model whose losses are given, and the two sides."""
    rows = np.arange(len(scores))
    columns = columns or {"label": rows, "features": rows.astype(np.float32)}
    data = Split.of("data", **columns)
    target = Target("fake", "classifier", None, "fake")
    losses = dict(zip(data.ids, -np.asarray(scores, np.float64), strict=True))
    inside = np.asarray(inside, bool)
    sides = {"members": data.where(inside), "outsiders": data.where(~inside)}
    return target, sides, losses


def test_learning_by_heart_is_seen_and_private_training_is_not(tmp_path, monkeypatch):
    """Private training at epsilon 1; the noise is what opacus gives for it, see the next test."""
    plain = TrainClassifier(epochs=60, learning_rate=5e-3, weight_decay=0.0)
    target, sides = trained(plain, PlainRun(tmp_path / "plain"))
    bound, exchange = EpsilonLowerBound()(target, sides, PlainRun(tmp_path))
    assert bound.name == NAME
    assert exchange.name == EXCHANGE
    assert bound.value > 0.8
    assert exchange.value == pytest.approx(2 * bound.value, rel=0.01)
    assert bound.low == bound.high == bound.value
    assert bound.n == 80
    assert "canaries that stand alone (160 of 160)" in bound.note
    assert "95 % confidence and delta 1e-05" in bound.note

    monkeypatch.setattr(dp_sgd, "noise_multiplier", lambda budget, rate, steps: NOISE)
    private = DpTrainClassifier(epsilon=1.0, epochs=EPOCHS, batch_size=32, learning_rate=5e-3)
    target, sides = trained(private, PlainRun(tmp_path / "private"))
    for number in EpsilonLowerBound()(target, sides, PlainRun(tmp_path)):
        assert number.value < 1.0
    (coins,) = EpsilonLowerBound(design="coins")(target, sides, PlainRun(tmp_path))
    assert coins.value < 1.0


def test_the_noise_above_is_that_of_epsilon_one():
    pytest.importorskip("opacus", reason="opacus is not installed (pip install 'engram[dp]')")
    n = (OTHERS + CANARIES) // 2
    budget = dp_sgd.Budget(1.0, 1e-5, accountant="rdp")
    assert dp_sgd.noise_multiplier(budget, 32 / n, EPOCHS * -(-n // 32)) == pytest.approx(
        NOISE, rel=0.1
    )


def test_all_right_by_hand(tmp_path):
    """20 pairs, all right; 20 and 10 guesses are tried at 97.5 % each: 0.025 = q^20."""
    target, sides, losses = fake(np.repeat([1.0, 0.0], 20), np.repeat([True, False], 20))
    run = PlainRun(tmp_path, losses_of={"fake": losses})
    bound, exchange = EpsilonLowerBound(delta=0.0)(target, sides, run)
    q = 0.025 ** (1 / 20)
    assert exchange.value == pytest.approx(np.log(q / (1 - q)), abs=1e-5)
    assert bound.value == pytest.approx(exchange.value / 2, abs=1e-5)
    (coins,) = EpsilonLowerBound(delta=0.0, design="coins")(target, sides, run)
    tries = 2 * 3 - 1  # 40, 20 and 10 guesses; the last two also all "in"
    q = (0.05 / tries) ** (1 / 40)
    assert coins.value == pytest.approx(np.log(q / (1 - q)), abs=1e-5)
    assert coins.n == 40
    (alone,) = EpsilonLowerBound(delta=0.0, design="coins", share=1.0)(target, sides, run)
    q = 0.05 ** (1 / 40)
    assert alone.value == pytest.approx(np.log(q / (1 - q)), abs=1e-5)


def test_the_target_says_how_it_was_held_out(tmp_path):
    """Fair coins are one step each; other coins, and fixed numbers, are guessed in pairs."""
    target, sides, losses = fake(np.repeat([1.0, 0.0], 20), np.repeat([True, False], 20))
    run = PlainRun(tmp_path, losses_of={"fake": losses})
    for chance, design in ((0.5, "coins"), (0.75, "pairs"), (0.0, "pairs")):
        said = replace(target, lineage=Lineage(coins=chance))
        assert EpsilonLowerBound()(said, sides, run) == EpsilonLowerBound(design=design)(
            said, sides, run
        )


def test_scores_that_know_nothing_show_nothing(tmp_path):
    shown = 0
    for seed in range(16):
        rng = stream(seed, "nothing")
        target, sides, losses = fake(rng.normal(size=80), rng.permutation(80) < 40)
        run = PlainRun(tmp_path, seed, losses_of={"fake": losses})
        for design in ("pairs", "coins"):
            found = EpsilonLowerBound(design=design)(target, sides, run)
            shown += found[0].value > 0
            assert found[0].value > 0 or "nothing can be shown" in found[0].note
    assert shown <= 4  # 5 % of 32, and two standard errors


def test_equal_scores_do_not_give_the_order_of_the_sides_away(tmp_path):
    target, sides, losses = fake(np.zeros(200), np.arange(200) < 100)
    run = PlainRun(tmp_path, losses_of={"fake": losses})
    for design in ("pairs", "coins"):
        assert EpsilonLowerBound(design=design)(target, sides, run)[0].value == 0


def test_the_order_of_records_does_not_matter(tmp_path):
    rng = stream(0, "order")
    target, sides, losses = fake(rng.normal(size=60) + (np.arange(60) < 30), np.arange(60) < 30)
    run = PlainRun(tmp_path, losses_of={"fake": losses})
    turned = {name: side.reversed() for name, side in sides.items()}
    for design in ("pairs", "coins"):
        measure = EpsilonLowerBound(design=design)
        assert measure(target, sides, run) == measure(target, turned, run)


def test_the_base_makes_scores_where_there_is_one(tmp_path):
    """By loss alone nothing is seen; less what the base says, everything."""
    hard = stream(0, "hard").normal(size=60) * 5
    saw = np.arange(60) < 30
    target, sides, losses = fake(saw - hard, saw)
    base = dict(zip(losses, hard, strict=True))
    others = {"b": Target("base", "classifier", None, "base")}
    run = PlainRun(tmp_path, losses_of={"fake": losses, "base": base}, others=others)
    tuned = replace(target, lineage=Lineage(base="b"))
    assert EpsilonLowerBound(score="loss")(tuned, sides, run)[0].value == 0
    found = EpsilonLowerBound()(tuned, sides, run)[0]
    assert found.value > 0.5
    assert "by reference" in found.note
    assert (
        "by loss (target 'fake' names no base)" in EpsilonLowerBound()(target, sides, run)[0].note
    )
    with pytest.raises(EngramError, match="names no base"):
        EpsilonLowerBound(score="reference")(target, sides, run)


def test_repeated_canaries_and_owners_are_not_records(tmp_path):
    """A unit is what chance put in or left out as a whole."""
    inside = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 0], bool)
    text = ["a", "a", "b", "c", "d", "e", "e", "f", "g", "h"]
    owners = [f"o{x}" for x in (0, 0, 1, 2, 3, 4, 4, 5, 6, 6)]  # 6 is on both sides
    data = Split.of("d", text=text, owners=owners)
    sides = data.where(inside), data.where(~inside)
    alone = units_of(*sides, alone=True, canaries=False)
    assert sorted(alone.records.texts) == ["b", "c", "d", "f"]
    assert alone.inside.sum() == 2
    whole = units_of(*sides, alone=False, canaries=False)
    assert sorted(whole.sizes) == [1, 1, 1, 1, 2, 2]
    values = np.array([ord(t) for t in whole.records.texts], float)
    assert sorted(whole.mean(values)) == [ord(t) for t in "abcdef"]
    trained, held_out = matched(whole, stream(0))
    assert whole.inside[trained].all()
    assert not whole.inside[held_out].any()
    np.testing.assert_array_equal(whole.sizes[trained], whole.sizes[held_out])
    assert len(trained) == 3
    target = Target("fake", "causal-lm", None, "fake")
    losses = dict.fromkeys(data.ids, 1.0)
    run = PlainRun(tmp_path, losses_of={"fake": losses})
    names = dict(zip(("members", "outsiders"), sides, strict=True))
    assert "(4 of 10)" in EpsilonLowerBound()(target, names, run)[0].note
    note = EpsilonLowerBound(unit="owner")(target, names, run)[0].note
    assert "whole owners (up to 2 records each)" in note


def test_canaries_are_guessed_where_there_are_any(tmp_path):
    target, sides, losses = fake(np.zeros(40), np.arange(40) % 2)
    run = PlainRun(tmp_path, losses_of={"fake": losses})
    assert "records, not canaries" in EpsilonLowerBound()(target, sides, run)[0].note
    (missing,) = EpsilonLowerBound(records="canaries")(target, sides, run)
    assert missing.value is None
    assert missing.note == "no canaries were planted"
    marked = {n: replace(s, canaries=tuple(k < 6 for k in range(20))) for n, s in sides.items()}
    assert EpsilonLowerBound()(target, marked, run)[0].n == 6
    assert EpsilonLowerBound(records="all")(target, marked, run)[0].n == 20


def test_pairs_are_drawn_so_that_each_side_is_a_fair_coin():
    """Given the pairs, every choice of one of each must be as likely: here, all 2^2 of them."""
    data, counts = Split.of("d", text=list("abcd"), ids=list("abcd")), {}
    plan = units_of(data.take([0, 1]), data.take([2, 3]), alone=True, canaries=False)
    for draw in range(1500):
        rng = stream(draw, "fair")
        units = replace(plan, inside=np.isin(np.arange(4), rng.permutation(4)[:2]))
        key = frozenset(map(frozenset, zip(*matched(units, rng), strict=True)))
        saw = tuple(np.flatnonzero(units.inside))
        counts.setdefault(key, {}).setdefault(saw, 0)
        counts[key][saw] += 1
    assert len(counts) == 3
    for saws in counts.values():
        assert len(saws) == 4
        assert min(saws.values()) > 0.2 * sum(saws.values())


@pytest.mark.parametrize(
    ("sides", "fact"),
    [
        ({}, "there are no members"),
        ({"members": 3}, "there are no outsiders"),
        ({"members": 3, "outsiders": 0}, "there are no outsiders"),
    ],
)
def test_what_is_missing_is_said(sides, fact, tmp_path):
    splits = {n: Split.of(n, text=[f"{n} {i}" for i in range(k)]) for n, k in sides.items() if k}
    splits |= {n: Split.of(n, text=np.array([], str)) for n, k in sides.items() if not k}
    (found,) = EpsilonLowerBound()(Target("f", "causal-lm", None, ""), splits, PlainRun(tmp_path))
    assert found.value is None
    assert fact in found.note


def test_no_unit_to_guess_and_coins_that_were_not_fair(tmp_path):
    target, sides, losses = fake(np.zeros(60), np.arange(60) < 50)
    run = PlainRun(tmp_path, losses_of={"fake": losses})
    (found,) = EpsilonLowerBound(design="coins")(target, sides, run)
    assert "50 of 60" in found.note
    assert EpsilonLowerBound()(target, sides, run)[0].n == 10  # pairs need no equal sides
    owned = {n: replace(side, owners=(n,) * len(side)) for n, side in sides.items()}
    (found,) = EpsilonLowerBound()(target, owned, run)
    assert "none of the records, not canaries stands alone" in found.note
    (found,) = EpsilonLowerBound(unit="owner")(target, owned, run)
    assert "can be paired" in found.note  # one owner of 50 records, another of 10


@pytest.mark.parametrize(
    ("fields", "fact"),
    [
        ({"delta": -1.0}, "delta is -1.0"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"share": 2.0}, "share of units to guess on is 2.0"),
    ],
)
def test_fields_that_cannot_work_are_refused(fields, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        EpsilonLowerBound(**fields)
    assert caught.value.hint

"""Shadow models: trained as the target was, on known halves, and found again."""

import numpy as np
import pytest
from tests_engine import method

from engram.core import EngramError, Split, Target
from engram.engine import EngineRun, audit, train
from engram.engine.records import Known
from engram.engine.trial import Trial


@pytest.fixture(scope="module")
def noisy():
    """Records whose labels are half noise, so that a classifier must learn them by heart."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(240, 12)).astype(np.float32)
    label = (features[:, 0] + rng.normal(size=240) > 0).astype(np.int64)
    return Split.of("noisy", features=features, label=label)


@pytest.fixture(scope="module")
def overfitted(noisy, tmp_path_factory):
    """A target that knows its members well, its sides, and the run that made it."""
    run = EngineRun(root=tmp_path_factory.mktemp("runs"))
    recipe = method("recipes", "train-classifier", width=48, epochs=25, learning_rate=5e-3)
    target = train(recipe, noisy, run, source="", holdout=0.5)
    sides = [target.ledger.split(noisy, role) for role in ("trained", "held-out")]
    return target, Known(noisy, *sides, noisy.take([])), run


def test_pairs_complement_each_other(overfitted):
    target, known, run = overfitted
    found = run.shadows(target.sealed(), known.everything, 4)
    assert found.saw.shape == (4, 240)
    assert (found.saw.sum(axis=0) == 2).all()
    np.testing.assert_array_equal(found.saw[0], ~found.saw[1])
    assert not np.array_equal(found.saw[0], found.saw[2])
    prints = {shadow.fingerprint for shadow in found.targets}
    assert len(prints) == 4
    assert target.fingerprint not in prints


def test_a_shadow_saw_what_it_is_said_to_have_seen(overfitted):
    target, known, run = overfitted
    found = run.shadows(target.sealed(), known.everything, 2)
    for shadow, saw in zip(found.targets, found.saw, strict=True):
        losses = run.losses(shadow, known.everything)
        assert losses[saw].mean() < 0.5 * losses[~saw].mean()


def test_they_do_not_depend_on_the_order_of_records(overfitted):
    target, known, run = overfitted
    forwards = run.shadows(target.sealed(), known.everything, 2)
    backwards = run.shadows(target.sealed(), known.everything.reversed(), 2)
    np.testing.assert_array_equal(forwards.saw, backwards.saw[:, ::-1])
    same = [s.fingerprint for s in forwards.targets]
    assert same == [s.fingerprint for s in backwards.targets]


def test_an_audit_with_shadows_beats_chance_and_finds_them_again(overfitted, monkeypatch):
    target, known, run = overfitted
    fields = {"lira": {"shadows": 8}, "rmia": {"shadows": 8}}
    names = ("loss", "lira", "rmia")

    def area(found):
        return {a["name"]: a["findings"][0]["value"] for a in found.document["attacks"]}

    first = audit(target, known.trained, known.held_out, run, attacks=names, settings=fields)
    areas = area(first)
    assert areas["lira"] > areas["loss"] + 0.05, areas
    assert areas["rmia"] > areas["loss"] + 0.05, areas

    def never(*_):
        raise AssertionError("a shadow was trained again")

    recipe = type(method("recipes", "train-classifier"))
    monkeypatch.setattr(recipe, "__call__", never)
    again = {**fields, "lira": {"shadows": 8, "mode": "offline"}}
    other = audit(target, known.trained, known.held_out, run, attacks=names, settings=again)
    assert area(other)["lira"] > 0.6


def test_a_model_that_never_saw_the_members_gives_nothing_away(overfitted):
    target, _, run = overfitted
    rng = np.random.default_rng(11)
    fresh = rng.normal(size=(240, 12)).astype(np.float32)
    label = (fresh[:, 0] + rng.normal(size=240) > 0).astype(np.int64)
    trial = Trial(
        Split.of("members", features=fresh[:120], label=label[:120]),
        Split.of("others", features=fresh[120:], label=label[120:]),
    )
    attacks = {
        "lira": method("attacks", "lira", shadows=8),
        "rmia": method("attacks", "rmia", shadows=8),
    }
    found = trial.run(attacks, target, run)
    for values in found.scores.values():
        inside, outside = values[found.is_member], values[~found.is_member]
        wins = (inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2
        assert 0.35 < wins < 0.65


def test_a_model_from_outside_carries_no_recipe(overfitted):
    target, known, run = overfitted
    stranger = Target("stranger", target.family, target.model, target.fingerprint)
    with pytest.raises(EngramError, match="does not carry the recipe"):
        run.shadows(stranger, known.everything, 2)


def test_refuses_no_shadows(overfitted):
    target, known, run = overfitted
    with pytest.raises(EngramError, match="0 shadows"):
        run.shadows(target, known.everything, 0)

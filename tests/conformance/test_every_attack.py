"""What every attack must do, on every kind of target that answers what it needs."""

from dataclasses import replace

import numpy as np
import pytest

from engram.catalog import entries
from engram.core import ACCESS, EngramError, Scores

ANSWERS = {"causal-lm": {"tokens", "losses"}, "classifier": {"losses", "logits"}}
CASES = [
    pytest.param(entry.load(), family, id=f"{name}-{family}")
    for name, entry in entries("attacks").items()
    for family, answers in ANSWERS.items()
    if entry.load().needs <= answers
]
pytestmark = pytest.mark.parametrize(("attack", "family"), CASES)


@pytest.fixture
def victim(family, target, classifier):
    """A target of the family, without a ledger."""
    return {"causal-lm": target, "classifier": classifier}[family].sealed()


@pytest.fixture
def records(family, split, arrays):
    return {"causal-lm": split, "classifier": arrays}[family]


def test_declares_what_it_needs(attack, family):
    assert attack.needs
    assert attack.needs <= {"tokens", "losses", "logits"}
    assert attack.access in ACCESS


def test_scores_every_record_once_in_order(attack, victim, records, run):
    scores = attack()(victim, records, run)
    assert isinstance(scores, Scores)
    assert scores.ids == records.ids
    assert scores.values.shape == (len(records),)
    assert np.isfinite(scores.values).all()


def test_tells_records_apart(attack, victim, records, run):
    assert len(np.unique(attack()(victim, records, run).values)) > 1


def test_repeats_itself_bit_for_bit(attack, victim, records, run):
    first, second = (attack()(victim, records, run).values for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_does_not_depend_on_the_order_of_records(attack, victim, records, run):
    forwards = attack()(victim, records, run).values
    backwards = attack()(victim, records.reversed(), run).values
    np.testing.assert_allclose(backwards[::-1], forwards, rtol=1e-9, atol=1e-9)


def test_does_not_depend_on_the_company_of_records(attack, victim, records, run):
    if getattr(attack, "relative", False):
        return  # it says so itself: it compares records, or models trained on them
    everything = attack()(victim, records, run).values
    alone = attack()(victim, records.take([3]), run).values
    np.testing.assert_allclose(alone, everything[[3]], rtol=1e-9, atol=1e-9)


def test_does_not_see_owners_or_names(attack, victim, records, run):
    renamed = records.renamed("other")
    if not getattr(attack, "relative", False):  # shadows see all records of an owner, or none
        renamed = replace(renamed, owners=None)
    np.testing.assert_array_equal(
        attack()(victim, renamed, run).values, attack()(victim, records, run).values
    )


def test_asks_only_for_what_it_declares(attack, family, victim, records, run):
    attack()(victim, records, run)
    # A language model's losses are read off its token signals, so that they come with them.
    allowed = set(attack.needs) | ({"tokens"} if family == "causal-lm" else set())
    assert run.asked
    assert set(run.asked) <= allowed


def test_leaves_the_records_as_they_are(attack, victim, records, run):
    before = records.fingerprint
    attack()(victim, records, run)
    del records.__dict__["fingerprint"]
    assert records.fingerprint == before


def test_no_records_give_no_scores(attack, victim, records, run):
    try:
        scores = attack()(victim, records.take([]), run)
    except EngramError:
        return
    assert scores.ids == ()
    assert scores.values.shape == (0,)


def test_scores_higher_what_the_model_learnt_by_heart(attack, family, by_heart, run):
    if family != "causal-lm" or getattr(attack, "relative", False):
        return  # the stand-in shadows of these tests were trained on nothing
    knows, members, outsiders = by_heart
    high = attack()(knows, members, run).values
    low = attack()(knows, outsiders, run).values
    wins = np.mean(high[:, None] > low[None, :])
    assert wins > 0.75, "members must score higher than outsiders, on a model that knows them"

"""What every attack must do, on every kind of target that answers what it needs."""

from dataclasses import replace

import numpy as np
import pytest

from engram.catalog import entries
from engram.core import ACCESS, EngramError, Scores, Split

ANSWERS = {
    "causal-lm": {"tokens", "logprobs", "losses", "text"},
    "classifier": {"losses", "logits"},
}
SETTINGS = {
    "Lira": {"shadows": 4},
    "QuantileRegression": {"population": "public"},
    "Recall": {"shots": 2, "shot_tokens": 8},
    "SpvMia": {"reference": "base", "paraphraser": "random-tokens", "paraphrases": 2},
}
"""What an attack cannot do without, or what makes it quick on these slow stand-ins."""
CASES = [
    pytest.param(entry.load(), family, id=f"{name}-{family}")
    for name, entry in entries("attacks").items()
    for family, answers in ANSWERS.items()
    if entry.load().needs <= answers and family in getattr(entry.load(), "families", {family})
]
pytestmark = pytest.mark.parametrize(("attack", "family"), CASES)


def made(attack):
    """The attack with its defaults, where these can be had."""
    return attack(**SETTINGS.get(attack.__name__, {}))


@pytest.fixture(autouse=True)
def public(family, run):
    """Records that nobody trained on, for attacks that learn from such."""
    rng = np.random.default_rng(23)
    words = ("river", "gate", "letter", "blue", "noon", "street", "door", "fish")
    texts = [" ".join(rng.choice(words, rng.integers(3, 9))) + f" {i}" for i in range(60)]
    features = rng.normal(size=(60, 4)).astype(np.float32)
    run.others["public"] = {
        "causal-lm": Split.of("public", text=texts),
        "classifier": Split.of("public", features=features, label=rng.integers(0, 3, 60)),
    }[family]


@pytest.fixture
def victim(family, target, classifier):
    """A target of the family, without a ledger."""
    return {"causal-lm": target, "classifier": classifier}[family].sealed()


@pytest.fixture
def records(family, split, arrays):
    return {"causal-lm": split, "classifier": arrays}[family]


def test_declares_what_it_needs(attack, family):
    assert attack.needs
    assert attack.needs <= {"tokens", "logprobs", "losses", "logits", "energies", "text"}
    assert attack.access in ACCESS


def test_scores_every_record_once_in_order(attack, victim, records, run):
    scores = made(attack)(victim, records, run)
    assert isinstance(scores, Scores)
    assert scores.ids == records.ids
    assert scores.values.shape == (len(records),)
    assert np.isfinite(scores.values).all()


def test_tells_records_apart(attack, victim, records, run):
    assert len(np.unique(made(attack)(victim, records, run).values)) > 1


def test_repeats_itself_bit_for_bit(attack, victim, records, run):
    first, second = (made(attack)(victim, records, run).values for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_does_not_depend_on_the_order_of_records(attack, victim, records, run):
    forwards = made(attack)(victim, records, run).values
    backwards = made(attack)(victim, records.reversed(), run).values
    np.testing.assert_allclose(backwards[::-1], forwards, rtol=1e-9, atol=1e-9)


def test_does_not_depend_on_the_company_of_records(attack, victim, records, run):
    if getattr(attack, "relative", False):
        return  # it says so itself: it compares records, or models trained on them
    everything = made(attack)(victim, records, run).values
    alone = made(attack)(victim, records.take([3]), run).values
    np.testing.assert_allclose(alone, everything[[3]], rtol=1e-9, atol=1e-9)


def test_does_not_see_owners_or_names(attack, victim, records, run):
    renamed = records.renamed("other")
    if not getattr(attack, "relative", False):  # shadows see all records of an owner, or none
        renamed = replace(renamed, owners=None)
    np.testing.assert_array_equal(
        made(attack)(victim, renamed, run).values, made(attack)(victim, records, run).values
    )


def test_asks_only_for_what_it_declares(attack, family, victim, records, run):
    made(attack)(victim, records, run)
    # A language model's losses are read off its token signals, so that they come with them.
    allowed = set(attack.needs) | ({"tokens", "text"} if family == "causal-lm" else set())
    assert run.asked or attack.access == "weights"
    assert set(run.asked) <= allowed


def test_leaves_the_records_as_they_are(attack, victim, records, run):
    before = records.fingerprint
    made(attack)(victim, records, run)
    del records.__dict__["fingerprint"]
    assert records.fingerprint == before


def test_no_records_give_no_scores(attack, victim, records, run):
    try:
        scores = made(attack)(victim, records.take([]), run)
    except EngramError:
        return
    assert scores.ids == ()
    assert scores.values.shape == (0,)


def test_scores_higher_what_the_model_learnt_by_heart(attack, family, by_heart, run):
    if family != "causal-lm" or getattr(attack, "relative", False):
        return  # the stand-in shadows of these tests were trained on nothing
    knows, members, outsiders = by_heart
    high = made(attack)(knows, members, run).values
    low = made(attack)(knows, outsiders, run).values
    wins = np.mean(high[:, None] > low[None, :])
    assert wins > 0.75, "members must score higher than outsiders, on a model that knows them"

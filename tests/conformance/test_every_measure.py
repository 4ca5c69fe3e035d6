"""What every measure must do, on every kind of target that answers what it needs."""

import pytest

from engram.catalog import entries
from engram.core import ACCESS, Finding

ANSWERS = {
    "causal-lm": {"tokens", "logprobs", "losses", "text"},
    "classifier": {"losses", "logits"},
}
CASES = [
    pytest.param(entry, family, id=f"{name}-{family}")
    for name, entry in entries("measures").items()
    for family, answers in ANSWERS.items()
    if entry.load().needs <= answers
]
pytestmark = pytest.mark.parametrize(("entry", "family"), CASES)
QUICK = {
    "training-value": {"steps": 5},
    "backdoor-scan": {"steps": 5, "references": 1, "reference_steps": 5, "tuning_steps": 5},
}
"""Settings of measures that train networks: a few steps show what is asked here."""


@pytest.fixture
def found(entry, family, target, classifier, split, arrays, run):
    """A function that measures a target on five members and the other records."""
    victim = {"causal-lm": target, "classifier": classifier}[family].sealed()
    records = {"causal-lm": split, "classifier": arrays}[family]
    sides = {
        "members": records.take(range(5), "members"),
        "outsiders": records.take(range(5, len(records)), "outsiders"),
    }
    measure = entry.load()(**QUICK.get(entry.name, {}))
    return lambda: measure(victim, sides, run)


def test_returns_findings(entry, family, found):
    findings = found()
    assert isinstance(findings, tuple)
    assert findings
    assert all(isinstance(finding, Finding) for finding in findings)


def test_names_the_method_and_no_number_twice(entry, family, found):
    findings = found()
    assert {finding.method for finding in findings} <= {entry.name, ""}
    assert len({(f.name, f.split) for f in findings}) == len(findings)


def test_repeats_itself(entry, family, found):
    assert found() == found()


def test_asks_only_for_what_it_declares(entry, family, found, run):
    found()
    measure = entry.load()
    # `needs_one_of`: whichever of these the family has.
    allowed = set(measure.needs) | set(getattr(measure, "needs_one_of", ()))
    allowed |= {"tokens"} if family == "causal-lm" else set()
    assert set(run.asked) <= allowed


def test_declares_its_access(entry, family):
    assert entry.load().access in ACCESS

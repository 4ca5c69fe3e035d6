"""Stopping rules, worked by hand on one trace, and how much a monitor may look at."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.core import EngramError, stream
from engram.parts.stopping import best, check_stop, stops
from engram.parts.watch import (
    BACKWARD,
    CALL,
    FEWEST,
    REFERENCES,
    WRITTEN,
    Watch,
    afford,
    spread_out,
)

NGRAM = (0.02, 0.03, 0.08, 0.30, 0.10)
PERPLEXITY = (90.0, 60.0, 50.0, 45.0, 47.0)
TRACE = [{"ngram": n, "validation_perplexity": p} for n, p in zip(NGRAM, PERPLEXITY, strict=True)]


@pytest.mark.parametrize(
    ("rule", "tau", "kept"),
    [
        ("none", 0.1, None),
        ("perplexity", 0.1, 3),
        ("ngram", 0.1, 4),  # rises of 0, .01, .06, .28, .08: the fourth is out, 47 beats 50
        ("ngram", 0.06, 2),
        ("ngram", 0.0, 0),
        ("threshold", 0.1, 2),
        ("threshold", 0.005, 0),
        ("threshold", 0.5, 4),
    ],
)
def test_what_each_rule_keeps(rule, tau, kept):
    assert best(rule, TRACE, tau) == kept


def test_when_each_rule_stops():
    def stopped(rule, tau, patience=0):
        return next((n for n in range(1, 6) if stops(rule, TRACE[:n], tau, patience)), None)

    assert stopped("threshold", 0.1) == 4
    assert stopped("threshold", 0.5) is None
    assert stopped("perplexity", 0.1) is None
    assert stopped("ngram", 0.01, patience=1) == 3
    assert stopped("none", 0.0, patience=1) is None
    assert not stops("perplexity", [], 0.1, 1)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1, 99)), min_size=1), st.floats(0, 1))
def test_what_is_kept_was_allowed_and_is_the_best_so_far(entries, tau):
    trace = [{"ngram": n, "validation_perplexity": p} for n, p in entries]
    for rule in ("ngram", "threshold"):
        kept = best(rule, trace, tau)
        assert trace[kept]["ngram"] - trace[0]["ngram"] <= tau
        # Weights are kept when they are the best: so the best of all was the best at its time.
        assert best(rule, trace[: kept + 1], tau) == kept


@pytest.mark.parametrize(
    ("field", "value"),
    [("tau", -0.1), ("patience", -1), ("cost", 0.0), ("suffix", 5),
     ("prefix", 0), ("sample", 1), ("canaries", -1), ("sizes", (4, 4))],
)  # fmt: skip
def test_settings_that_cannot_be(field, value):
    with pytest.raises(EngramError, match=field):
        Watch(**{field: value})


def test_a_rule_that_there_is_not_names_the_nearest():
    with pytest.raises(EngramError, match="ngramm") as problem:
        check_stop("ngramm", 0.1, 0)
    assert "ngram" in str(problem.value.hint)


@given(
    st.integers(0, 10**7), st.integers(8, 500), st.integers(6, 64), st.integers(0, 60),
    st.integers(1, 2),
)  # fmt: skip
def test_looking_costs_what_was_said_or_the_least_that_says_anything(
    trained, record, steps, canary, sides
):
    watch = Watch()
    sizes = afford(watch, trained, float(record), steps, float(canary), sides)
    writing = steps * (CALL + WRITTEN * sizes.written) + watch.prefix * sizes.written
    reading = sides * sizes.read * record
    planted = sizes.canaries * (REFERENCES + 1) * canary
    allowance = watch.cost * BACKWARD * trained
    assert FEWEST <= sizes.written <= watch.sample
    assert FEWEST <= sizes.read <= watch.sample
    if writing + reading + planted > allowance:  # something is at its least
        assert sizes.written == FEWEST or sizes.read == FEWEST or sizes.canaries <= 1
    assert sizes.canaries <= watch.canaries
    assert (sizes.canaries == 0) == (canary == 0)


def test_any_beginning_has_as_many_owners_as_it_can():
    owners = ["a"] * 6 + ["b"] * 3 + ["c"]
    allowed = np.ones(10, bool)
    allowed[0] = False
    rows = spread_out(owners, allowed, stream(0, "test"))
    assert sorted(rows) == list(range(1, 10))
    assert {owners[row] for row in rows[:3]} == {"a", "b", "c"}
    assert {owners[row] for row in rows[3:5]} == {owners[row] for row in rows[5:7]} == {"a", "b"}
    assert sorted(spread_out(None, allowed, stream(0, "test"))) == list(range(1, 10))

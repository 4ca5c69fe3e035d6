"""Numbers at matched perplexity: by hand, and against numpy's interpolation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.cli.compare import sparkline
from engram.core import Target
from engram.core.target import Lineage
from engram.engine.compare.matched import (
    Question,
    common,
    crossing,
    epoch_of,
    least,
    matched,
    observations,
)
from engram.engine.compare.names import names_of

PERPLEXITY = Question("validation perplexity", "validation_perplexity")
AUC = Question("AUC", "auc")
VERBATIM = Question("verbatim rate", "verbatim")


def seen(epoch, perplexity, auc, verbatim=None):
    entry = {"step": int(10 * epoch), "epoch": float(epoch), "auc_n": 40}
    entry |= {"validation_perplexity": perplexity, "validation_perplexity_n": 20}
    entry |= {
        f"validation_perplexity_{end}": perplexity * f for end, f in (("low", 0.9), ("high", 1.1))
    }
    entry |= {"auc": auc, "auc_low": auc - 0.1, "auc_high": auc + 0.1}
    if verbatim is not None:
        entry |= {"verbatim": verbatim, "verbatim_low": 0.0, "verbatim_high": verbatim + 0.1}
    return entry


STEPS = [{"step": 3, "epoch": 0.3, "loss": 4.0, "lr": 1e-3}]
FALLS = [seen(0, 100.0, 0.5), *STEPS, seen(1, 25.0, 0.6), seen(2, 16.0, 0.8), seen(3, 30.0, 0.9)]


def test_a_case_by_hand():
    """From 100 to 25, a perplexity of 50 is half the way by logarithm."""
    assert [e["epoch"] for e in observations(FALLS)] == [0, 1, 2, 3]
    assert least(FALLS) == 16.0
    assert crossing(FALLS, 50.0) == (1, pytest.approx(0.5))
    assert epoch_of(FALLS, 50.0) == pytest.approx(0.5)
    perplexity, auc = matched(FALLS, 50.0, [PERPLEXITY, AUC])
    assert auc.value == pytest.approx(0.55)
    assert (auc.low, auc.high, auc.n) == (pytest.approx(0.45), pytest.approx(0.65), 40)
    assert perplexity.value == pytest.approx(50.0)
    assert (perplexity.low, perplexity.high) == (pytest.approx(45.0), pytest.approx(55.0))
    assert matched(FALLS, 25.0, [AUC])[0].value == pytest.approx(0.6)
    assert matched(FALLS, 16.0, [AUC])[0].value == pytest.approx(0.8)
    assert matched(FALLS, 100.0, [AUC])[0].value == pytest.approx(0.5)
    assert epoch_of(FALLS, 200.0) == 0.0  # the untrained model was as good


def test_the_way_down_counts_not_the_way_up():
    """A perplexity of 28 is passed twice; what counts is the first time."""
    assert epoch_of(FALLS, 28.0) < 1.0
    assert matched(FALLS, 28.0, [AUC])[0].value < 0.6


def test_all_are_compared_where_the_slowest_got_to():
    slow = [seen(0, 100.0, 0.5), seen(1, 60.0, 0.51), seen(2, 55.0, 0.52)]
    assert common([FALLS, slow]) == 55.0
    assert common([FALLS, STEPS]) == 16.0
    assert common([STEPS]) is None
    assert crossing(slow, 55.0) == (2, pytest.approx(1.0))


def test_what_was_not_seen_is_said():
    auc, verbatim = matched(FALLS, 50.0, [AUC, VERBATIM])
    assert auc.value is not None
    assert (verbatim.value, verbatim.note) == (None, "not observed while it trained")
    assert matched(FALLS, 10.0, [AUC])[0].note == "it got no lower than 16"
    assert matched(STEPS, 10.0, [AUC])[0].note == "not observed while it trained"
    assert crossing(FALLS, 10.0) is None
    assert epoch_of(STEPS, 10.0) is None
    broken = [{**FALLS[0], "validation_perplexity": math.nan}, *FALLS]
    assert observations(broken) == observations(FALLS)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.05, 2.0), min_size=1, max_size=6), st.floats(0.01, 0.99), st.data())
def test_it_is_linear_interpolation_in_the_logarithm(drops, share, data):
    """On the way down from 200; numpy wants rising numbers."""
    logs = np.log(200) - np.cumsum([0.0, *drops])
    auc = [data.draw(st.floats(0.5, 0.8)) for _ in logs]
    trace = [seen(e, math.exp(x), a) for e, (x, a) in enumerate(zip(logs, auc, strict=True))]
    at = math.exp(logs[0] + share * (logs[-1] - logs[0]))
    expected = np.interp(math.log(at), logs[::-1], auc[::-1])
    found = matched(trace, at, [AUC])[0]
    assert found.value == pytest.approx(expected, abs=1e-9)
    assert found.low <= found.value <= found.high
    assert epoch_of(trace, at) == pytest.approx(
        np.interp(math.log(at), logs[::-1], np.arange(len(logs))[::-1])
    )


def target(name, fingerprint="abcdef123", seed=0, **config):
    lineage = Lineage(method="finetune-lm", kind="recipes", config=config, seed=seed)
    return Target(name, "causal-lm", None, fingerprint, lineage=lineage)


def test_names_say_what_sets_targets_apart():
    auto = "finetune-lm-0123456789"
    one = target(auto, weight_decay=0.01, epochs=3)
    two = target("finetune-lm-abcdef0123", weight_decay=1.0, epochs=3)
    assert names_of([one, two]) == (
        "finetune-lm, weight-decay 0.01", "finetune-lm, weight-decay 1",
    )  # fmt: skip
    assert names_of([one, target("mine")]) == ("finetune-lm, weight-decay 0.01, epochs 3", "mine")
    other = target("finetune-lm-abcdef0123", seed=1, weight_decay=0.01, epochs=3)
    assert names_of([one, other]) == ("finetune-lm, seed 0", "finetune-lm, seed 1")
    same = target("mine", "99"), target("mine", "11")
    assert names_of(same) == ("mine (99)", "mine (11)")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([3.0], "▁"),
        ([2.0, 2.0], "▁▁"),
        ([0.0, 1.0, 2.0, 7.0], "▁▂▃█"),
        ([5.0, 0.0], "█▁"),
    ],
)
def test_sparklines_by_hand(values, expected):
    assert sparkline(values) == expected


def test_a_long_course_is_thinned_and_keeps_its_end():
    line = sparkline([float(n) for n in range(100)])
    assert len(line) <= 16
    assert line[0] == "▁"
    assert line[-1] == "█"

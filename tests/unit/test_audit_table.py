"""The table of an audit on terminals of any width, and the sentence above it."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from engram.cli.judge import _table
from engram.core import Finding
from engram.engine.judge import _uncorrected, _whose


def found(name, value, low, high):
    return Finding(name, value, low, high, 60).to_json()


def audit():
    rates = [Finding.missing("TPR@1%FPR", "too few").to_json(), found("TPR@5%FPR", 0.4, 0.3, 0.5)]
    owners = [found("AUC", 0.6, 0.5, 0.7)]
    return {"attacks": [
        {"name": name, "findings": [found("AUC", area, area - 0.1, area + 0.1), *rates],
         "owner_findings": owners} for name, area in (("loss", 0.8), ("min-k-plus-plus", 0.55))
    ]}  # fmt: skip


@pytest.mark.parametrize("width", [0, 30, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_lost(width, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: width > 0, raising=False)
    monkeypatch.setenv("COLUMNS", str(width or 80))
    lines = _table(audit())
    if width:
        assert max(map(len, lines)) <= max(width, 40), "a name and one number are the least"
    for number in ("0.800 [0.700, 0.900]", "0.600 [0.500, 0.700]", "0.400 [0.300, 0.500]"):
        assert any(number in line for line in lines)
    shown = "TPR@1%FPR" in "".join(lines)
    assert shown == (width in (0, 120)), "a column of dashes makes room"


def test_a_choice_that_failed_is_not_called_the_best():
    best = SimpleNamespace(finding=Finding("AUC", 0.21, 0.01, 0.52, 91), attack="zlib",
                           judged_on=np.array([True, False]))  # fmt: skip
    assert _whose(best) == "zlib, which looked best on the other half of the records"
    best.judged_on = np.array([True, True])
    assert _whose(best) == "the best of them", "nothing was chosen"
    best.finding, best.judged_on = Finding("AUC", 0.55, 0.4, 0.7, 91), np.array([True, False])
    assert _whose(best) == "the best of them"


def test_an_attack_that_alone_tells_the_sides_apart_is_not_hidden():
    says = _uncorrected(audit()["attacks"])
    assert "loss alone has AUC 0.800 [0.700, 0.900]" in says
    assert "one of 2" in says
    assert _uncorrected(audit()["attacks"][1:]) == ""

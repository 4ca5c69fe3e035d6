"""What `engram compare` prints, wide and narrow: no number is cut, and bars can be compared."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from engram.cli.compare import BARS, _lines, sparkline

made = runpy.run_path(str(Path(__file__).with_name("comparison_document.py")))


@pytest.fixture
def shown(monkeypatch):
    """The lines for so many targets on a terminal of this width; 0: on no terminal."""

    def call(width, count=5, document=None):
        document = document or made["comparison"]()
        document["targets"] = document["targets"][:count]
        monkeypatch.setattr(sys.stdout, "isatty", lambda: width > 0, raising=False)
        monkeypatch.setenv("COLUMNS", str(width or 80))
        return "\n".join(_lines(document, Path("runs/x/report.html"))).splitlines()

    return call


def numbers(document, count):
    for target in document["targets"][:count]:
        for cell in target["cells"] + target["matched"]:
            digits = ".1f" if abs(cell["value"]) >= 10 else ".3f"
            yield format(cell["value"], digits)
            yield f"[{format(cell['low'], digits)}, {format(cell['high'], digits)}]"


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("width", [0, 40, 60, 100, 200])
def test_no_number_is_cut_at_any_width(width, count, shown):
    lines = shown(width, count)
    text = "\n".join(lines)
    for each in numbers(made["comparison"](), count):
        assert each in text
    assert "\u2026" not in text
    if width:
        told = [line for line in lines if line[:1] in "┏┃┡│├└ " and line]
        assert max(map(len, told)) <= width


def test_a_narrow_terminal_has_the_targets_one_under_another(shown):
    assert not any(line.startswith("┏") for line in shown(60))
    assert any(line.startswith("┏") for line in shown(140))
    assert any(line.startswith("┏") for line in shown(0)), "a file is as wide as it needs to be"


def test_bars_of_all_targets_have_one_scale(shown):
    bars = [re.findall(f"[{BARS}]+", line) for line in shown(60)]
    exposure = [found[0] for line, found in zip(shown(60), bars, strict=True)
                if "exposure" in line and found]  # fmt: skip
    assert exposure[0][-1] == "█", "what was exposed most"
    assert set(exposure[4]) <= set(BARS[:3]), "what was hardly exposed"


def test_what_was_not_measured_says_why(shown):
    document = made["comparison"]()
    cell = document["targets"][0]["cells"][2]
    note = "not measurable with 50 outsiders: 1 % of them is less than one"
    cell |= {"value": None, "low": None, "high": None, "note": note}
    for width in (60, 160):
        said = " ".join(re.sub("[│┃]", " ", "\n".join(shown(width, 2, document))).split())
        assert "not measurable with" in said
        assert "less than one" in said


def test_names_from_outside_are_shown_as_text(shown):
    document = made["comparison"]()
    document["targets"][0]["name"] = "a\x1b[2J\nb"
    for width in (60, 160):
        assert "a\\x1b[2J\\nb" in "\n".join(shown(width, 2, document))


def test_bars_between_given_ends():
    assert sparkline([0.0, 1.0], ends=(0.0, 8.0)) == "▁▂"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([]) == ""
    assert len(sparkline([float(i) for i in range(100)])) == 16

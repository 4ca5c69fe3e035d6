"""The report of a comparison: its figures, its page, and documents that cannot be drawn."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram import report
from engram.core import EngramError, Finding
from engram.report.comparison import front
from engram.report.pareto import Plotted, course, pareto

made = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("comparison_document.py"))))


def plotted(name, x, y):
    return Plotted(
        name, Finding("p", x, x - 0.5, x + 0.5, 9), Finding("AUC", y, y - 0.1, y + 0.1, 9)
    )


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8))
def test_the_front_is_what_nobody_beats(points):
    floats = [(float(x), float(y)) for x, y in points]
    for point, on in zip(floats, front(floats), strict=True):
        beaten = any(
            other[0] <= point[0] and other[1] <= point[1]
            and (other[0] < point[0] or other[1] < point[1])
            for other in floats
        )  # fmt: skip
        assert on != beaten


def test_the_figure_names_every_point_and_fills_those_on_the_front():
    drawn = str(pareto("AUC", [plotted("a", 10.0, 0.9), plotted("b", 12.0, 0.6),
                               plotted("c", 12.5, 0.95)], 0.5))  # fmt: skip
    for name in "abc":
        assert f">{name}</text>" in drawn
    assert drawn.count("dot hollow") == 1  # c is worse than both
    assert drawn.count('class="front"') == 1
    assert "c: validation perplexity 12.5" in drawn
    assert "b: validation perplexity 12.0, AUC 0.600, on the front" in drawn


def test_perplexities_far_apart_are_on_a_logarithmic_axis():
    near = str(pareto("AUC", [plotted("a", 10.0, 0.9), plotted("b", 20.0, 0.6)], 0.5))
    far = str(pareto("AUC", [plotted("a", 10.0, 0.9), plotted("b", 900.0, 0.6)], 0.5))
    assert ">500</text>" in far
    assert ">500</text>" not in near


def test_one_point_makes_no_figure():
    missing = Plotted("m", Finding("p", 1.0, 1.0, 1.0, 9), Finding.missing("AUC", "not asked"))
    assert str(pareto("AUC", [plotted("a", 10.0, 0.9), missing], 0.5)) == ""


def test_a_course_has_its_ends_in_words_and_a_dot_where_it_was_matched():
    drawn = str(course("AUC of a", [0.5, 0.7, 0.9], 0, 1.5))
    assert "from 0.500 to 0.900" in drawn
    assert drawn.count("<circle") == 1
    assert "<circle" not in str(course("AUC of a", [0.5, 0.7], 0, None))


def test_without_observations_the_page_says_why_nothing_is_matched():
    document = made.comparison()
    document["matched"] = {"at": None, "reason": "5 of 5 targets were not observed"}
    for target in document["targets"]:
        target |= {"matched": [], "trace": [], "epoch": None}
    page = report.render_html(document)
    assert "Not compared: 5 of 5 targets were not observed." in page
    assert "While they trained" not in page
    assert "Not compared at matched perplexity" in report.render_markdown(document)


def test_json_names_the_target_of_every_number():
    found = report.report_json(made.comparison())
    assert len(found["findings"]) == 5 * (5 + 4)
    assert {f["split"] for f in found["findings"]} >= {"none", "none, matched", "goldfish"}
    assert found["matched"]["validation_perplexity"] == 19.5


def test_texts_from_outside_are_escaped():
    document = made.comparison()
    document["targets"][0]["name"] = "<script>alert(1)</script>"
    document["warnings"] = ["<b>bold</b>"]
    page = report.render_html(document)
    assert "<script>" not in page
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold" in page


@pytest.mark.parametrize(
    ("spoil", "fact"),
    [
        (lambda d: d["targets"][0]["cells"].pop(), "5 findings, one for each question"),
        (lambda d: d["targets"][1]["matched"].pop(), "4 findings, one for each question"),
        (lambda d: d.pop("questions"), "has no 'questions'"),
        (lambda d: d.update(questions=[]), "at least one question"),
        (lambda d: d["targets"][0].pop("target"), "has no 'target'"),
        (lambda d: d.update(verdict={"level": "great", "sentence": ""}), "level"),
        (lambda d: d["matched"].update(at="low"), "must be a number"),
    ],
)
def test_a_document_that_is_not_what_it_must_be_is_an_error_that_says_where(spoil, fact):
    document = made.comparison()
    spoil(document)
    with pytest.raises(EngramError, match=fact) as caught:
        report.render_html(document)
    assert caught.value.hint

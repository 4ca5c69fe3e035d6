"""The report of one measure: its figures and table, and records that cannot be drawn."""

import copy

import pytest

from engram import report
from engram.core import EngramError, Finding

HOSTILE = "<script>alert(1)</script>"


def measurement():
    found = [
        Finding("accuracy", 0.9, 0.85, 0.94, 120, split="members", better="higher"),
        Finding("accuracy", 0.7, 0.6, 0.78, 80, split="outsiders", better="higher"),
        Finding("AUC", 0.8, 0.7, 0.88, 200, split="members, outsiders"),
        Finding.missing("loss", "no logits", n=3),
    ]
    return {
        "engram": "0.1.0", "kind": "measurement", "method": "accuracy", "id": "measure-0123456789",
        "created": "2026-01-31T12:00:00Z", "seconds": 1.5, "summary": "How often it is right.",
        "target": {"name": "flowers", "family": "classifier", "fingerprint": "ab12"},
        "setup": {"records": {"members": 120, "outsiders": 80}, "data": "iris", "seed": 0,
                  "device": "cpu", "settings": {"steps": 3}},
        "measures": [one.to_json() for one in found],
    }  # fmt: skip


def test_each_number_is_a_figure_with_sides_in_their_colours():
    page = report.render_html(measurement())
    assert page.count("<figure>") == 2, "what has no value is told in the table alone"
    assert 'class="dot s0"' in page
    assert 'class="dot s1"' in page
    assert ">chance</text>" in page
    assert "90.0 %" in page
    assert "no logits" in page
    assert "120 records" in page
    assert "http" not in page.split("</style>")[1]


def test_programs_and_cards_get_the_same_numbers():
    found = report.report_json(measurement())
    assert [one["value"] for one in found["findings"]] == [0.9, 0.7, 0.8, None]
    assert {one["method"] for one in found["findings"]} == {"accuracy"}
    assert "| accuracy | outsiders | 70.0 %" in report.render_markdown(measurement())


def test_hostile_names_are_text():
    document = measurement()
    document["method"] = document["target"]["name"] = document["summary"] = HOSTILE
    document["measures"][0] |= {"name": HOSTILE, "split": HOSTILE, "unit": HOSTILE}
    document["setup"]["records"] = {HOSTILE + "\x00": 3}
    page = report.render_html(document)
    assert "<script" not in page
    assert "&lt;script" in page


@pytest.mark.parametrize(
    ("where", "value", "fact"),
    [
        ("measures", [{"name": "x"}], "measures"),
        ("method", 3, "must be text"),
        ("setup", {"records": {"members": -1}}, "must be a count"),
        ("setup", {"records": 3}, "must be an object"),
    ],
)
def test_a_record_that_cannot_be_drawn_is_an_error_that_says_where(where, value, fact):
    document = {**copy.deepcopy(measurement()), where: value}
    with pytest.raises(EngramError, match=fact):
        report.render_html(document)

"""What a monitor saw, as charts, a table, and a section of the report."""

import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from engram.core import EngramError
from engram.report import memorisation_page, render_html
from engram.report.observed import charts, of_trace, telling

made = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("report_documents.py"))))


def entry(epoch, **numbers):
    found = {"step": int(10 * epoch), "epoch": float(epoch)}
    for name, value in numbers.items():
        found |= {name: value, f"{name}_low": value * 0.9, f"{name}_high": value, f"{name}_n": 20}
    return found


TRACE = [
    entry(e, verbatim=v, ngram=v + 0.1, train_perplexity=90.0 - 20 * e, exposure=1.0 + e)
    for e, v in enumerate((0.0, 0.05, 0.4))
]


def test_one_chart_a_group_with_names_beside_the_lines():
    drawn = charts(of_trace(TRACE, 1))
    assert len(drawn) == 3
    shares, perplexities, exposure = map(str, drawn)
    for name in ("verbatim rate", "n-grams in place"):
        assert re.search(rf'class="direct[^"]*"[^>]*>{name}|>{name}</text>', shares)
    assert "n-grams anywhere" not in shares
    assert "validation records" not in perplexities
    assert "bits" in exposure
    assert all("kept: epoch 1" in chart for chart in map(str, drawn))
    assert shares.count("<circle") == 6
    assert "verbatim rate: 0 at epoch 0, 0.400 at epoch 2" in shares


def test_intervals_are_drawn_and_sides_keep_their_colours():
    trace = [
        entry(e, auc=0.5 + e / 10, train_perplexity=90.0, validation_perplexity=99.0)
        for e in (0, 1)
    ]
    shares, perplexities = map(str, charts(of_trace(trace, None)))
    assert "AUC by chance" in shares
    assert shares.count('class="band ') == 1
    for side in ("s0", "s1"):
        assert f'class="band {side}"' in perplexities
    upper, lower = (re.search(r'd="M([^"]*)Z" class="band s0"', perplexities).group(1).split()[k]
                    for k in (1, 7))  # fmt: skip
    assert float(upper) < float(lower), "from 90 down to 81"


def test_nothing_is_drawn_of_a_single_moment():
    assert charts(of_trace(TRACE[:1], None)) == ()
    assert charts(()) == ()
    assert telling(()) == ()


def test_the_table_has_the_kept_and_the_last_numbers_with_n():
    found = telling(of_trace(TRACE, 1))
    assert {f.split for f in found} == {"epoch 1, kept", "epoch 2, let go"}
    assert {f.name for f in found} == {
        "verbatim rate", "n-grams in place", "perplexity of trained records", "mean exposure"
    }  # fmt: skip
    assert all(f.n == 20 and f.low <= f.value <= f.high for f in found)
    assert {f.split for f in telling(of_trace(TRACE, None))} == {"epoch 2, kept"}


def test_the_page_holds_every_number_and_no_script():
    page = memorisation_page(TRACE, 2)
    assert page.count("<tr>") == 4
    assert "2 (kept)" in page
    assert "0.400" in page
    assert "(n=20)" in page
    assert "<script" not in page


def observed():
    return [
        {"epoch": each.epoch, "kept": each.kept, "findings": [f.to_json() for f in each.findings]}
        for each in of_trace(TRACE, 1)
    ]


def test_an_audit_shows_what_was_seen_while_the_model_trained():
    document = made.audit()
    plain = render_html(document)
    assert "learnt by heart while it trained" not in plain
    page = render_html({**document, "observed": observed()})
    assert "learnt by heart while it trained" in page
    assert "kept: epoch 1" in page
    assert "epoch 2, let go" in page


def test_what_is_garbled_is_an_error_that_says_where():
    document = json.loads(json.dumps({**made.audit(), "observed": observed()}))
    document["observed"][0]["kept"] = "yes"
    with pytest.raises(EngramError, match="observed"):
        render_html(document)

"""One request and many unlearners: the table, its report, the verdict that is drawn from it."""

import shutil

import pytest
from tests_engine import method

from engram.core import EngramError
from engram.engine import EngineRun, known_records, load, to_forget
from engram.engine.forget import (
    BEFORE,
    FORGETTING,
    INDEX,
    NEVER,
    _verdict,
    with_residual,
)
from engram.engine.forget_compare import _told_apart, compare_unlearners
from engram.engine.prepared import Suited, suited
from engram.store import deletions


@pytest.fixture(scope="module")
def compared(store, tmp_path_factory):
    """Three ways to forget one owner; one of them cannot."""
    root = tmp_path_factory.mktemp("compare") / "runs"
    shutil.copytree(store.root, root)
    target = load(root / store.target.folder.name)
    known = known_records(target)
    records = to_forget(target, known, owner=known.trained.owners[0])
    methods = {
        "gradient-difference": method("edits", "gradient-difference", steps=2),
        "guardrail": method("edits", "guardrail", words=2),
        "gradient-ascent": method("edits", "gradient-ascent", steps=10, learning_rate=5.0),
    }
    run = EngineRun(root=root)
    return (
        root,
        target,
        known,
        records,
        methods,
        compare_unlearners(target, known, records, Suited(methods, {}), run),
    )


def test_every_model_has_a_column_and_every_question_a_row(compared):
    done = compared[-1]
    table = done.story.document["comparison"]
    assert table["columns"] == [BEFORE, "gradient-difference", "guardrail", NEVER]
    rows = {row["name"]: row["cells"] for row in table["rows"]}
    assert {"AUC of forgotten records", "forget quality (p-value)", INDEX, FORGETTING,
            "model utility on kept records", "seconds to make it"} <= set(rows)  # fmt: skip
    assert all(len(cells) == 4 for cells in rows.values())
    assert rows[INDEX][0]["value"] == 1
    assert rows[INDEX][3]["value"] == 0
    assert rows[INDEX][3]["note"] == "by definition"


def test_what_diverged_is_a_line_and_loses_nothing(compared):
    done = compared[-1]
    assert list(done.failed) == ["gradient-ascent"]
    assert done.failed["gradient-ascent"].startswith("diverged: ")
    assert any(step["title"] == "gradient-ascent" for step in done.story.document["steps"])


def test_nothing_is_deleted_by_looking(compared):
    root, target, *_ = compared
    assert not deletions.entries(root)
    assert not load(target.folder).ledger.having("forgotten")


def test_the_short_table_says_promises_and_verdicts(compared):
    lines = compared[-1].lines()
    assert lines[0][:2] == ["model", "promise"]
    assert lines[0][-1] == "verdict"
    by_model = {line[0]: line for line in lines[1:]}
    assert by_model["guardrail"][1] == "suppression"
    assert by_model[NEVER][1] == "exact"
    assert by_model["guardrail"][-1] in ("suppressed", "not forgotten", "unknown")
    assert (compared[-1].story.folder / "report.html").is_file()


def test_it_is_found_again(compared):
    root, target, known, records, methods, done = compared
    again = compare_unlearners(target, known, records, Suited(methods, {}), EngineRun(root=root))
    assert again.story.folder == done.story.folder
    assert again.story.document["created"] == done.story.document["created"]


def test_the_command_line(compared, engram):
    root, target, known, *_ = compared
    said = engram(
        "forget", target.folder, "--owner", known.trained.owners[0], "--compare", "guardrail",
        "--store", root,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "guardrail" in said.out
    assert "report: " in said.out


@pytest.mark.parametrize(
    ("wanted", "says"),
    [(["nop"], "no unlearner called 'nop'"), (["retrain"], "beside retrain"), ([], "beside")],
)
def test_unlearners_must_be_known(compared, wanted, says):
    with pytest.raises(EngramError, match=says) as problem:
        suited(compared[1], wanted)
    assert problem.value.hint


def test_all_are_those_of_the_family(compared):
    found = suited(compared[1], ["all"]).edits
    assert {"npo", "rmu", "guardrail"} <= set(found)
    assert "retrain" not in found


def test_compare_and_method_exclude_each_other(compared, refused):
    root, target, known, *_ = compared
    said = refused(
        "forget", target.folder, "--owner", known.trained.owners[0], "--compare", "all",
        "--method", "npo", "--store", root,
    )  # fmt: skip
    assert "--compare and --method npo" in said


def rows_with(forgetting, value, low, high, note):
    cell = {"value": value, "low": low, "high": high, "note": note}
    return [
        {"name": FORGETTING, "cells": [None, {"value": forgetting}]},
        {"name": INDEX, "cells": [None, cell]},
    ]


FINE = {"level": "no leak found", "sentence": "They can no longer be told."}


@pytest.mark.parametrize(
    ("rows", "level", "says"),
    [
        (rows_with(1.0, 0.1, 0.0, 0.2, "removed; the most was found by: 4-bit weights"),
         "no leak found", "removed (suppression index 0.10"),
        (rows_with(1.0, 0.8, 0.5, 0.9, "suppressed; the most was found by: answer probe"),
         "leak", "suppressed, not removed: the most is brought back by answer probe"),
        (rows_with(1.0, 0.3, 0.1, 0.9, "suppressed; the most was found by: logit lens"),
         "no leak found", "cannot tell whether it is removed or only suppressed"),
        (rows_with(0.4, 0.9, 0.5, 1.0, "not forgotten; the most was found by: logit lens"),
         "leak", "it still answers 60 %"),
        (rows_with(None, None, None, None, "too few"), "no leak found", "cannot be told: too few"),
        ([], "no leak found", "They can no longer be told."),
    ],
)  # fmt: skip
def test_the_verdict_tells_removal_from_suppression(rows, level, says):
    found = with_residual(FINE, rows)
    assert found["level"] == level
    assert says in found["sentence"]


@pytest.mark.parametrize(
    ("chance", "level", "says"),
    [
        ({BEFORE: 1e-6, "npo": 0.4, "sisa": 0.6, NEVER: 0.5}, "no leak found",
         "cannot be told from records never seen after npo, sisa."),
        ({BEFORE: 1e-6, "npo": 0.01, "sisa": 0.6, NEVER: 0.5}, "leak",
         "after sisa; they still can after npo."),
        ({BEFORE: 1e-6, "npo": 0.01, NEVER: 0.5}, "leak", "records still can after npo."),
        ({BEFORE: 0.2, "npo": 0.01, NEVER: 0.5}, "unknown", "even before they were forgotten"),
        ({BEFORE: 1e-6, "npo": 0.01, NEVER: 0.004}, "unknown", "stand out by what they are"),
    ],
)  # fmt: skip
def test_where_insides_cannot_be_asked_membership_decides(chance, level, says):
    found = _told_apart(chance)
    assert found["level"] == level
    assert says in found["sentence"]


def test_records_that_are_easy_by_themselves_are_no_leak():
    """They stand out for a model that never saw them too, in the same direction."""
    cells = [{"value": value} for value in (0.71, 0.70, 0.74)]
    found = _verdict([{"cells": cells}], [0.015, 0.021, 0.0045])
    assert found["level"] == "unknown"
    assert "by what they are" in found["sentence"]
    others = [{"value": value} for value in (0.71, 0.30, 0.74)]  # pushed out the other way
    assert _verdict([{"cells": others}], [0.015, 0.021, 0.0045])["level"] == "leak"
    assert _verdict([{"cells": cells}], [0.015, 0.021, 0.4])["level"] == "leak"
    assert _verdict([{"cells": cells[:2]}], [0.015, 0.021])["level"] == "leak"

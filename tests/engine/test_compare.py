"""`engram compare` on tiny targets: the table, the report, what is found again and what refused."""

import json
import shutil
import sys
from dataclasses import dataclass, replace

import pytest
from tests_engine import LETTERS, method

from engram import data
from engram.core import EngramError
from engram.engine import audit, battery, compare, load, train
from engram.engine.compare.sides import sides_of


@dataclass(frozen=True)
class Pair:
    """Two targets that were observed while they trained, on the same records."""

    plain: object
    goldfish: object


@pytest.fixture(scope="module", autouse=True)
def small_audits():
    """Audits of what a comparison asks for, and no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(battery.BATTERIES, "standard", ("loss", "reference"))
        patch.setattr(battery, "MEASURES", ("perplexity", "extraction"))
        yield


@pytest.fixture(scope="module")
def pair(store):
    made = {}
    for name, fields in {"finetune-lm": {}, "goldfish-lm": {"one_in": 2}}.items():
        recipe = method(
            "recipes", name, base=str(store.base.folder), epochs=2, observe=True,
            learning_rate=1e-3, observe_sample=8, observe_prefix=8, observe_suffix=8, **fields,
        )  # fmt: skip
        made[name] = train(
            recipe, store.letters, store.run, source=LETTERS, holdout=0.5, validation=0.3
        )
    return Pair(made["finetune-lm"], made["goldfish-lm"])


@pytest.fixture(scope="module")
def compared(pair, store):
    return compare([pair.plain, pair.goldfish], store.run)


def test_targets_stand_side_by_side_as_trained_and_matched(compared):
    document = compared.document
    names = [question["name"] for question in document["questions"]]
    # Nothing was planted, and of so few records no rate at 1 % can be told.
    assert names == ["validation perplexity", "AUC", "verbatim rate"]
    observed = [question for question in document["questions"] if question["key"]]
    level = document["matched"]["at"]
    lowest = []
    for row in document["targets"]:
        assert [cell["name"] for cell in row["cells"]] == names
        assert [cell["name"] for cell in row["matched"]] == [q["name"] for q in observed]
        assert len(row["trace"]) == 3  # before the first step, and after each epoch
        perplexities = [entry["validation_perplexity"] for entry in row["trace"]]
        lowest.append(min(perplexities))
        found = row["matched"][0]
        assert found["low"] <= found["value"] <= found["high"]
        assert found["value"] == pytest.approx(level, rel=0.05)
    assert level == max(lowest)
    assert document["index"] == [
        cell for row in document["targets"] for cell in row["cells"] + row["matched"]
    ]


def test_numbers_are_those_of_the_audit(compared, pair, store):
    known = sides_of([pair.plain, pair.goldfish])
    assert known.same
    assert not known.warnings
    one = audit(pair.plain, known.members, known.outsiders, store.run)
    assert compared.document["targets"][0]["audit"] == one.document["id"]
    cells = compared.document["targets"][0]["cells"]
    by_reference = next(a for a in one.document["attacks"] if a["name"] == "reference")
    assert cells[1]["value"] == by_reference["findings"][0]["value"]
    assert cells[1]["low"] == by_reference["findings"][0]["low"]
    perplexity = next(
        f for f in one.document["measures"]
        if (f["method"], f["split"]) == ("perplexity", "outsiders")
    )  # fmt: skip
    assert cells[0]["value"] == perplexity["value"]


def test_audits_and_comparisons_that_were_made_are_found(compared, pair, store, monkeypatch):
    from engram.engine.trial import Trial

    def again(*_):
        raise AssertionError("an audit was repeated")

    monkeypatch.setattr(Trial, "run", again)
    assert compare([pair.plain, pair.goldfish], store.run).folder == compared.folder
    turned = compare([pair.goldfish, pair.plain], store.run)
    assert turned.folder != compared.folder
    assert [row["audit"] for row in turned.document["targets"]] == [
        row["audit"] for row in reversed(compared.document["targets"])
    ]


def test_the_command_prints_a_table_and_writes_a_report(engram, pair, compared):
    said = engram("compare", pair.plain.folder, pair.goldfish.folder)
    assert said.code == 0, said.err
    for words in ("As trained", "goldfish-lm", "AUC", "At a validation perplexity of", "▁"):
        assert words in said.out
    page = (compared.folder / "report.html").read_text("utf-8")
    assert "against validation perplexity" in page
    assert "goldfish-lm" in page
    found = engram("compare", pair.plain.folder, pair.goldfish.folder, "--json").json
    assert {"findings", "targets", "matched", "report"} <= set(found)
    keys = {"method", "name", "value", "low", "high", "n", "unit", "split"}
    assert all(keys <= set(finding) for finding in found["findings"])
    limits = "[[limit]]\nname = 'AUC'\nmax = 1.0\n"
    (compared.folder / "policy.toml").write_text(limits)
    checked = engram("check", compared.folder, "--policy", compared.folder / "policy.toml")
    assert checked.code == 0, checked.err
    (compared.folder / "policy.toml").unlink()


def test_another_perplexity_can_be_asked_for(engram, pair, compared, tmp_path):
    at = compared.document["matched"]["at"] * 1.01
    said = engram("compare", pair.plain.folder, pair.goldfish.folder, "--at", at, "--json")
    assert said.json["matched"]["validation_perplexity"] == pytest.approx(at)


def test_targets_that_nobody_watched_are_compared_as_trained(pair, store):
    from engram.engine.compare import _level

    sides = sides_of([pair.plain, pair.goldfish])
    level, reason = _level([pair.plain, pair.goldfish], [[], []], sides, None)
    assert level is None
    assert "2 of 2 targets were not observed" in reason
    other = replace(sides, same=False)
    assert (
        "validation records differ" in _level([pair.plain, pair.goldfish], [[], []], other, None)[1]
    )


def test_targets_of_different_records_are_compared_on_those_they_share(pair, store, monkeypatch):
    """Data without some records, as deduplication leaves it: the same seed, other sides."""
    monkeypatch.setattr(sys.modules[sides_of.__module__], "FEWEST", 2)
    fewer = store.letters.take(range(len(store.letters) - 6))
    recipe = method("recipes", "finetune-lm", base=str(store.base.folder), epochs=1)
    path = store.root / "fewer.jsonl"
    data.write(fewer, path, force=True)
    other = train(recipe, data.read(str(path)), store.run, source=str(path), holdout=0.5)
    sides = sides_of([pair.plain, other])
    assert not sides.same
    assert "not trained on the same records" in sides.warnings[0]
    for side, role in ((sides.members, "trained"), (sides.outsiders, "held-out")):
        for target in (pair.plain, other):
            digests = dict(zip(target.ledger.digests, target.ledger.ids, strict=True))
            assert {digests[d] for d in side.digests} <= set(target.ledger.having(role))


def test_too_little_in_common_is_refused(pair, store):
    recipe = method("recipes", "finetune-lm", base=str(store.base.folder), epochs=1)
    other = train(
        recipe, data.read("demo:letters?n=30&seed=99"), store.run,
        source="demo:letters?n=30&seed=99", holdout=0.5,
    )  # fmt: skip
    with pytest.raises(EngramError, match="0 records in common") as caught:
        sides_of([pair.plain, other])
    assert "same --data" in caught.value.hint


def test_what_cannot_be_compared_is_refused(refused, pair, store, tmp_path):
    assert "no target is given" in refused("compare")
    plain = pair.plain.folder
    assert "only 'finetune-lm-" in refused("compare", plain)
    assert "are the same model" in refused("compare", plain, plain)
    assert "nowhere" in refused("compare", plain, "nowhere")
    said = refused("compare", plain, pair.goldfish.folder, "--at", 0.5)
    assert "no training was seen to reach a validation perplexity of 0.5" in said


def test_a_model_without_a_ledger_is_refused(pair, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(pair.goldfish.folder, folder)
    for name in ("target.json", "ledger.parquet", "trace.jsonl"):
        (folder / name).unlink()
    bare = replace(load(folder), fingerprint="another")
    with pytest.raises(EngramError, match="has no ledger") as caught:
        sides_of([pair.plain, bare])
    assert "engram train" in caught.value.hint


def test_other_families_tokenizers_and_nothing_held_out_are_refused(pair, store):
    other = replace(pair.goldfish, family="classifier")
    with pytest.raises(EngramError, match="is a classifier"):
        sides_of([pair.plain, other])
    tiny = {"vocabulary": 270, "layers": 1, "width": 16, "heads": 2, "context": 64, "epochs": 1}
    stranger = train(
        method("recipes", "pretrain-lm", **tiny), store.letters, store.run, source=LETTERS,
        holdout=0.5,
    )  # fmt: skip
    with pytest.raises(EngramError, match="different tokens"):
        sides_of([pair.plain, stranger])
    recipe = method("recipes", "finetune-lm", base=str(store.base.folder), epochs=1)
    whole = train(recipe, store.letters, store.run, source=LETTERS, holdout=0.0)
    with pytest.raises(EngramError, match="held no records out") as caught:
        sides_of([pair.plain, whole])
    assert "--holdout" in caught.value.hint


def test_a_promise_is_in_the_lineage_and_among_the_facts(store):
    pytest.importorskip("opacus", reason="opacus is not installed (pip install 'engram[dp]')")
    recipe = method(
        "recipes", "dp-finetune-lm", base=str(store.base.folder), epochs=1, delta=1e-3,
        accountant="rdp", batch_size=16,
    )  # fmt: skip
    made = train(recipe, store.letters, store.run, source=LETTERS, holdout=0.5, validation=0.3)
    stored = json.loads((made.folder / "target.json").read_text("utf-8"))
    promise = stored["lineage"]["guarantee"]
    assert promise["epsilon"] <= 8.0
    assert stored["facts"]["guarantee"] == promise["sentence"]
    again = train(recipe, store.letters, store.run, source=LETTERS, holdout=0.5, validation=0.3)
    assert again.folder == made.folder  # found by its inputs, of which the promise is none
    assert again.lineage.guarantee == promise

"""The nouns: what they accept, what they refuse, and what they promise."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import (
    Draft,
    EngramError,
    Finding,
    Ledger,
    Lineage,
    Scores,
    Split,
    Target,
    TokenSignals,
    check_disjoint,
    seed_of,
    stream,
    torch_seeded,
    torch_stream,
)
from engram.core.ledger import pseudonym

TEXTS = st.lists(st.text(max_size=12), min_size=1, max_size=8)


@given(TEXTS)
@settings(deadline=None, max_examples=40)
def test_ids_are_unique_and_follow_the_content(texts):
    split = Split.of("s", text=texts)
    assert len(set(split.ids)) == len(texts)
    for text, record in zip(texts, split.ids, strict=True):
        assert record.partition("~")[0] == Split.of("one", text=[text]).ids[0]


@given(TEXTS)
@settings(deadline=None, max_examples=40)
def test_reversing_twice_changes_nothing(texts):
    split = Split.of("s", text=texts, owners=[f"o{i % 2}" for i in range(len(texts))])
    again = split.reversed().reversed()
    assert again.ids == split.ids
    assert again.owners == split.owners
    assert again.fingerprint == split.fingerprint


def test_fingerprint_sees_content_order_and_owner():
    base = Split.of("s", text=["a", "b"], owners=["x", "y"])
    assert base.fingerprint == Split.of("t", text=["a", "b"], owners=["x", "y"]).fingerprint
    for other in (
        Split.of("s", text=["a", "c"], owners=["x", "y"]),
        Split.of("s", text=["a", "b"], owners=["x", "x"]),
        base.reversed(),
    ):
        assert other.fingerprint != base.fingerprint


def test_reserved_columns_do_not_enter_the_content():
    plain = Split.of("s", text=["a"])
    owned = Split.from_table("s", pa.table({"text": ["a"], "owner": ["me"], "canary": [True]}))
    assert plain.digests == owned.digests
    assert owned.canaries == (True,)
    assert owned.columns == ("text",)


def test_a_table_survives_the_way_out_and_back():
    split = Split.of("s", text=["a", "b"], owners=["x", "y"], ids=["1", "2"])
    back = Split.from_table("s", split.to_table())
    assert (back.ids, back.owners, back.texts) == (split.ids, split.owners, split.texts)
    assert back.fingerprint == split.fingerprint


def test_a_matrix_comes_back_as_it_went_in():
    features = np.arange(12, dtype=np.float32).reshape(3, 4)
    split = Split.of("s", features=features, label=np.array([0, 1, 0]))
    np.testing.assert_array_equal(split.matrix("features"), features)
    np.testing.assert_array_equal(split.take([2, 0]).matrix("features"), features[[2, 0]])
    np.testing.assert_array_equal(split.matrix("label"), [0, 1, 0])


def test_a_duplicate_id_is_named():
    with pytest.raises(EngramError, match="'1' stands on more than one"):
        Split.of("s", text=["a", "b"], ids=["1", "1"])


def test_a_missing_column_is_named_with_its_neighbours():
    with pytest.raises(EngramError, match="no column 'txt'; it has text") as caught:
        Split.of("s", text=["a"]).column("txt")
    assert "did you mean text" in caught.value.hint


def test_sides_may_not_share_ids_or_contents():
    one = Split.of("one", text=["a", "b"])
    check_disjoint(one, Split.of("two", text=["c"]))
    with pytest.raises(EngramError, match="1 records are in both 'one' and 'two'"):
        check_disjoint(one, Split.of("two", text=["b", "c"]))
    with pytest.raises(EngramError, match="1 contents are in both"):
        check_disjoint(one, Split.of("two", text=["b"], ids=["elsewhere"]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_must_be_finite(bad):
    with pytest.raises(EngramError, match="'b' has a score that is not finite"):
        Scores(("a", "b"), np.array([0.0, bad]))


def test_scores_must_fit_their_ids_and_cannot_be_changed():
    with pytest.raises(EngramError, match="2 ids but scores of shape"):
        Scores(("a", "b"), np.zeros(3))
    with pytest.raises(ValueError, match="read-only"):
        Scores(("a",), np.zeros(1)).values[0] = 1


def test_a_finding_needs_its_interval():
    with pytest.raises(EngramError, match="outside"):
        Finding("AUC", 0.9, 0.1, 0.5, 10)
    with pytest.raises(EngramError, match="not finite"):
        Finding("AUC", float("nan"), 0.0, 1.0, 10)
    with pytest.raises(EngramError, match="neither a value nor a reason"):
        Finding("AUC", None, None, None, 10)
    assert str(Finding("AUC", 0.5, 0.4, 0.6, 10)) == "AUC 0.500 [0.400, 0.600] (n=10)"
    assert "needs 1000" in str(Finding.missing("TPR", "needs 1000 outsiders"))


def test_streams_have_names_and_do_not_meddle():
    np.testing.assert_array_equal(stream(0, "a", 3).random(4), stream(0, "a", 3).random(4))
    assert not np.array_equal(stream(0, "a", 3).random(4), stream(0, "a", 4).random(4))
    assert seed_of(0, "a") != seed_of(1, "a")


def test_torch_streams_leave_the_global_generator_alone():
    import torch

    before = torch.get_rng_state()
    with torch_seeded(0, "x"):
        first = torch.rand(3)
    with torch_seeded(0, "x"):
        assert torch.equal(first, torch.rand(3))
    assert torch.equal(before, torch.get_rng_state())
    drawn = [torch.rand(2, generator=torch_stream(0, "y")) for _ in range(2)]
    assert torch.equal(*drawn)


def letters() -> Split:
    return Split.of("d", text=["a", "b", "c"], owners=["x", "x", "y"])


def test_a_ledger_remembers_and_forgets(tmp_path):
    data = letters()
    ledger = Ledger.of(data, np.array([True, True, False]))
    assert ledger.having("trained") == data.ids[:2]
    assert ledger.of_owner("x") == data.ids[:2]
    after = ledger.forgetting((data.ids[0],))
    after.save(tmp_path)
    back = Ledger.load(tmp_path)
    assert back.roles == ("forgotten", "trained", "held-out")
    assert back.owners == (pseudonym("x", "owner"), "x", "y")
    assert back.having("forgotten") == (pseudonym(data.ids[0], "id"),)
    assert back.split(data, "forgotten").ids == (data.ids[0],)
    back.check(data)
    back.check(data.take([1, 2]))  # what was forgotten may be deleted from the data
    assert back.split(data, "trained").ids == (data.ids[1],)
    with pytest.raises(EngramError, match="not trained on"):
        after.forgetting((data.ids[2],))


def test_a_ledger_refuses_other_data():
    ledger = Ledger.of(letters(), np.array([True, True, False]))
    other = Split.of("d", text=["a", "b", "X"], ids=letters().ids)
    with pytest.raises(EngramError, match="0 of its 3 records are missing and 1 have changed"):
        ledger.check(other)
    with pytest.raises(EngramError, match="1 of its 3 records are missing"):
        ledger.check(letters().take([0, 1]))


def test_a_damaged_ledger_is_an_error_not_a_traceback(tmp_path):
    (tmp_path / "ledger.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(EngramError, match="cannot be read"):
        Ledger.load(tmp_path)


def test_a_sealed_target_shows_no_ledger():
    ledger = Ledger.of(letters(), np.array([True, True, False]))
    target = Target("t", "causal-lm", None, "f", known=ledger)
    assert target.ledger is ledger
    with pytest.raises(EngramError, match="no ledger"):
        _ = target.sealed().ledger


def test_access_is_asked_for():
    target = Target("t", "causal-lm", None, "f", access="text")
    target.require("text", "reading")
    with pytest.raises(EngramError, match="min-k needs logits, but target 't' offers only text"):
        target.require("logits", "min-k")


def test_a_lineage_keeps_the_recipe_through_edits():
    recipe = Lineage(method="finetune-lm", kind="recipes", config={"epochs": 2})
    edited = Lineage(method="prune", kind="edits", history=(recipe.own(),))
    assert edited.recipe() == recipe
    assert recipe.recipe() is recipe
    assert Draft("causal-lm", None).trace == ()


def signals(lengths: list[int]) -> TokenSignals:
    total = sum(lengths)
    values = np.arange(total, dtype=np.float32)
    return TokenSignals(
        tuple(f"r{i}" for i in range(len(lengths))),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.arange(total, dtype=np.int32),
        values,
        values,
        values,
        np.zeros(total, np.int32),
        np.zeros(total, bool),
    )


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
@settings(deadline=None, max_examples=50)
def test_means_agree_with_a_loop(lengths):
    found = signals(lengths)
    expected = [part.mean() if len(part) else 0.0 for part in found.ragged(found.logprob)]
    np.testing.assert_allclose(found.means(found.logprob), expected)
    assert found.outcomes == tuple("scored" if n else "too-short" for n in lengths)


def test_aligned_signals_follow_the_ids():
    found = signals([2, 0, 3])
    picked = found.aligned(("r2", "r1"))
    assert picked.lengths.tolist() == [3, 0]
    assert picked.logprob.tolist() == [2.0, 3.0, 4.0]


def sides(**shared):
    mine, theirs = ({key: pair[k] for key, pair in shared.items() if pair[k] is not None}
                    for k in (0, 1))  # fmt: skip
    return Split.of("mine", text=["a"], shared=mine), Split.of("theirs", text=["b"], shared=theirs)


def test_joining_keeps_what_records_share():
    edges, trigger = np.array([[0, 1], [1, 0]]), np.ones((2, 4))
    mine, theirs = sides(edges=(edges, edges.copy()), trigger=(None, trigger), shape=(edges, None))
    both = mine.joined(theirs)
    assert set(both.shared) == {"edges", "trigger", "shape"}
    np.testing.assert_array_equal(both.shared["trigger"], trigger)
    assert both.fingerprint != mine.renamed("x").joined(Split.of("y", text=["b"])).fingerprint


def test_joining_puts_together_what_either_was_made_from():
    mine, theirs = sides(origins=(np.array(["a1", "b2"]), np.array(["b2", "c3"])))
    assert mine.joined(theirs).shared["origins"].tolist() == ["a1", "b2", "c3"]


def test_what_cannot_be_read_together_is_not_joined():
    mine, theirs = sides(pixel_range=(np.array([0, 1]), np.array([0, 16])))
    with pytest.raises(EngramError, match="'mine' and 'theirs' have another 'pixel_range'"):
        mine.joined(theirs)

import numpy as np
import pytest
import torch

from engram.signals.batches import chunks
from engram.signals.store import Done
from engram.signals.windows import Sight

LENGTHS = (5, 0, 12, 1, 3, 3, 30, 2, 8)
RECORDS = [np.arange(100 * i, 100 * i + n, dtype=np.int32) for i, n in enumerate(LENGTHS)]
SIGHT = Sight(8, 3)
TRUTH = np.concatenate([r[1:] for r in RECORDS])


def pieces(size, done=Done()):  # noqa: B008
    return list(chunks(RECORDS[done.records :], SIGHT, size, done))


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("budget", [1, 20, 1000])
@pytest.mark.parametrize("size", [1, 9, 25, 10_000])
def test_every_scored_token_has_one_place(size, budget, exact):
    found, ends = [], []
    for chunk in pieces(size):
        column = np.full(int(chunk.scored.sum()), -1)
        for batch in chunk.batches(budget, exact=exact):
            assert batch.tokens.size <= max(budget, SIGHT.window)
            assert len(batch.lengths) == 1 or batch.tokens.size <= budget
            if exact:
                assert len(set(batch.lengths)) == 1
            assert (column[batch.places] == -1).all()
            column[batch.places] = batch.answers
            flat = batch.tokens.reshape(-1)
            # Records here count upwards, so the token before an answer is one less.
            assert (flat[batch.asked] + 1 == batch.answers).all()
        assert (column >= 0).all()
        found.append(column)
        ends += chunk.ends.tolist()
    np.testing.assert_array_equal(np.concatenate(found), TRUTH)
    np.testing.assert_array_equal(ends, np.cumsum([max(n - 1, 0) for n in LENGTHS]))


def test_starting_again_after_any_chunk_gives_the_same_rest():
    whole = pieces(9)
    assert any(chunk.after.windows for chunk in whole)
    for number, chunk in enumerate(whole):
        rest = pieces(9, chunk.after)
        assert len(rest) == len(whole) - number - 1
        for one, other in zip(rest, whole[number + 1 :], strict=True):
            np.testing.assert_array_equal(one.tokens, other.tokens)
            np.testing.assert_array_equal(one.ends, other.ends)
            assert one.after == other.after


def test_the_mask_says_what_was_filled_up():
    (chunk,) = pieces(10_000)
    seen = set()
    for batch in chunk.batches(40, exact=False):
        inputs = batch.inputs(torch.device("cpu"))
        seen.add("attention_mask" in inputs)
        if "attention_mask" in inputs:
            assert inputs["attention_mask"].sum(1).tolist() == batch.lengths.tolist()
            assert (inputs["input_ids"][inputs["attention_mask"] == 0] == 0).all()
        else:
            assert (batch.lengths == batch.tokens.shape[1]).all()
    assert seen == {True, False}


def test_many_records_without_tokens_still_make_chunks():
    made = list(chunks([np.empty(0, np.int32)] * 50, SIGHT, 10, Done()))
    assert [len(chunk.ends) for chunk in made] == [10] * 5
    assert made[-1].after == Done(50, 0, 0)
    assert list(made[0].batches(10, exact=False)) == []

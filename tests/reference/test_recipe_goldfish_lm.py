"""`goldfish-lm` against its formula written out token by token, and by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError, Split, Target, stream
from engram.families import causal_lm
from engram.methods.recipes.finetune_lm import FinetuneLm
from engram.methods.recipes.goldfish_lm import GoldfishLm, dropped_of, dropped_tokens

SMALL = {"vocabulary": 300, "layers": 1, "width": 16, "heads": 2}
TEXTS = [f"Patient {i} of ward {'ABCD'[i % 4]} came on day {i * 37 % 29}." for i in range(10)]
WORD = 2**64


def slow_hash(tokens):
    """splitmix64's finaliser in whole numbers, wrapped by hand."""
    state = 0x9E3779B97F4A7C15
    for token in tokens:
        state = (state + int(token) + 0x9E3779B97F4A7C15) % WORD
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WORD
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % WORD
        state = state ^ (state >> 31)
    return state


@pytest.fixture(scope="module")
def texts():
    return Split.of("texts", text=TEXTS)


@pytest.fixture
def base():
    lm = causal_lm.tiny(TEXTS, seed=3, context=10, **SMALL)
    return Target("base", "causal-lm", lm, "base-print")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 50_000), max_size=40), st.integers(1, 6), st.integers(2, 7))
def test_the_mask_is_the_hash_of_the_tokens_before(tokens, h, k):
    found = dropped_tokens(np.array(tokens, np.int32), h, k)
    expected = [t >= h and slow_hash(tokens[t - h : t]) % k == 0 for t in range(len(tokens))]
    assert found.tolist() == expected


def test_a_case_by_hand():
    """One step of splitmix64 from state 0 gives 0xE220A8397B1DCDAF, as its authors print it.

    Our state begins at the golden number G, so a token that takes it back to 0 before G is added
    has that hash: even tokens of h = 1 aside, 0xE220A8397B1DCDAF mod 5 is 3 and mod 3 is 2.
    """
    state = 0x9E3779B97F4A7C15  # what splitmix64 adds to its state 0 first
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % WORD
    assert state ^ (state >> 31) == 0xE220A8397B1DCDAF
    from engram.methods.recipes.goldfish_lm import mixed

    back = np.array([[WORD - 0x9E3779B97F4A7C15]], np.uint64)
    assert int(mixed(back)[0]) == 0xE220A8397B1DCDAF


def test_the_expected_share_is_left_out():
    tokens = stream(0, "tokens").integers(0, 500, 40_000).astype(np.int32)
    for k in (2, 4, 32):
        share = dropped_tokens(tokens, 13, k).mean()
        assert share == pytest.approx(1 / k, abs=4 * np.sqrt((1 / k) * (1 - 1 / k) / 40_000))


def test_identical_passages_are_masked_alike_wherever_they_stand():
    rng = stream(0, "passages")
    passage = rng.integers(0, 500, 60).astype(np.int32)
    masks = []
    for before, after in ((0, 7), (5, 0), (31, 2)):
        around = [rng.integers(0, 500, n).astype(np.int32) for n in (before, after)]
        tokens = np.concatenate([around[0], passage, around[1]])
        masks.append(dropped_tokens(tokens, 13, 4)[before + 13 : before + 60])
    assert masks[0].any()
    assert (masks[0] == masks[1]).all()
    assert (masks[0] == masks[2]).all()


def test_the_first_tokens_are_always_learnt():
    tokens = np.arange(13, dtype=np.int32)
    assert not dropped_tokens(tokens, 13, 2).any()
    assert not dropped_tokens(tokens[:0], 13, 2).any()


def test_the_mask_of_a_record_does_not_depend_on_how_it_was_cut(texts, base):
    whole = causal_lm.tiny(TEXTS, seed=3, context=200, **SMALL)
    one = causal_lm.FAMILY.examples(whole, texts)
    cut = causal_lm.FAMILY.examples(base.model, texts)
    assert len(cut.record) > len(one.record)
    masks = dropped_of(cut, 5, 3)
    for row, expected in enumerate(dropped_of(one, 5, 3)):
        pieces = [masks[piece][:-1] for piece in np.flatnonzero(cut.record == row)]
        np.testing.assert_array_equal(np.concatenate(pieces), expected[:-1])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_loss_is_the_formula_token_by_token(texts, base, masked, parts, run):
    recipe = GoldfishLm(one_in=3, hash_tokens=4)
    examples = replace(causal_lm.FAMILY.examples(base.model, texts), parts=parts)
    if masked:
        asked = stream(1, "asked").random(len(examples.tokens)) < 0.7
        examples = replace(examples, asked=asked)
    loss = recipe.objective(base.model, base.model, examples, run)
    for rows in (np.arange(len(examples.record)), np.array([2, 0])):
        nll, learnt, left_out = 0.0, 0, 0
        for row in rows:
            record = np.flatnonzero(examples.record == examples.record[row])
            first = sum(int(examples.lengths[p]) - 1 for p in record if p < row)
            sequence = []
            for piece in record:
                own = examples.tokens[examples.offsets[piece] : examples.offsets[piece + 1]]
                sequence += own.tolist() if not sequence else own.tolist()[1:]
            ids = examples.tokens[examples.offsets[row] : examples.offsets[row + 1]].tolist()
            with torch.no_grad():
                table = torch.log_softmax(
                    base.model.model(torch.tensor([ids])).logits[0].double(), -1
                )
            for t in range(1, len(ids)):
                place = first + t
                before = sequence[place - 4 : place] if place >= 4 else None
                if masked and not examples.asked[examples.offsets[row] + t]:
                    continue
                if before is not None and slow_hash(before) % 3 == 0:
                    left_out += 1
                    continue
                nll -= float(table[t - 1, ids[t]])
                learnt += 1
        assert left_out
        found = sum(float(part.detach()) for part in loss(base.model, examples, rows))
        assert found == pytest.approx(nll / learnt, rel=1e-5)


def test_what_is_left_out_is_not_learnt(texts, base, tmp_path, run):
    """After many epochs the tokens that were left out are the ones the model does not know."""
    run.others["base"] = base
    fields = {"base": "base", "epochs": 25, "batch_size": 4, "learning_rate": 5e-3}
    fields |= {"schedule": "constant", "warmup": 0.0}
    gaps = {}
    for name, recipe in {
        "plain": FinetuneLm(**fields),
        "goldfish": GoldfishLm(**fields, one_in=3, hash_tokens=4),
    }.items():
        lm = recipe(texts, replace(run, scratch=tmp_path / name)).model
        examples = causal_lm.FAMILY.examples(lm, texts)
        dropped = np.concatenate(dropped_of(examples, 4, 3))
        with torch.no_grad():
            _, nll, predicted = examples.token_losses(np.arange(len(examples.record)))
        flat = np.concatenate(
            [row[: int(n)] for row, n in zip(nll.numpy(), examples.lengths, strict=True)]
        )
        known = np.concatenate(
            [row[: int(n)] for row, n in zip(predicted.numpy(), examples.lengths, strict=True)]
        )
        gaps[name] = flat[dropped & known].mean() - flat[~dropped & known].mean()
    assert gaps["goldfish"] > gaps["plain"] + 0.5


def test_fields_and_data_that_cannot_work_are_refused(base, run):
    for fields, fact in (({"one_in": 1}, "one_in is 1"), ({"hash_tokens": 0}, "hash_tokens is 0")):
        with pytest.raises(EngramError, match=fact) as caught:
            GoldfishLm(**fields)
        assert caught.value.hint
    examples = causal_lm.FAMILY.examples(base.model, Split.of("t", text=["abc abc abc abc"]))
    examples = replace(examples, asked=np.concatenate(dropped_of(examples, 1, 2)))
    shifted = np.roll(examples.asked, 1)  # position i says whether token i + 1 is left out
    with pytest.raises(EngramError, match="every predicted token"):
        GoldfishLm(one_in=2, hash_tokens=1).objective(
            base.model, base.model, replace(examples, asked=shifted), run
        )

"""The guardrail: what it recognises and refuses, what it leaves alone, and what lies behind it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from engram.core import EngramError, Split
from engram.families import causal_lm
from engram.methods.edits.guardrail import Guardrail
from engram.parts.guards import FILE, Guard
from engram.signals import token_signals

LM = causal_lm.FAMILY


@pytest.fixture
def sides(by_heart):
    target, members, outsiders = by_heart
    return target, members.take(range(3, 12), "keep"), members.take(range(3), "forget"), outsiders


@pytest.fixture
def guarded(sides, run):
    target, keep, forget, _ = sides
    return Guardrail()(target, keep, forget, run).model


def guard(texts, others=(), **fields):
    settings = {"words": 2, "share": 0.5, "refusal": "No.", "salt": "s", **fields}
    return Guard.of(texts, others, **settings)


def test_a_guard_by_hand():
    """Runs of two words; "the cat" is in a text to keep, so two runs of three are known."""
    made = guard(["The cat sat down."], ["the cat ran"])
    assert len(made.marks) == 2
    assert made.blocks("the CAT sat, down!")  # 2 of 3
    assert made.blocks("cat sat quietly")  # 1 of 2
    assert not made.blocks("a cat sat quietly")  # 1 of 3
    assert not made.blocks("the cat")
    assert not made.blocks("")
    assert guard(["word"]).blocks("Word")


def test_other_salts_give_other_marks():
    one, other = guard(["a b c"]), guard(["a b c"], salt="t")
    assert not set(one.marks) & set(other.marks)


def test_forgotten_records_are_refused_and_others_are_not(sides, guarded):
    _, keep, forget, outsiders = sides
    assert all(guarded.guard.blocks(text) for text in forget.texts)
    assert not any(guarded.guard.blocks(text) for text in keep.texts)
    assert np.mean([guarded.guard.blocks(text) for text in outsiders.texts]) < 0.2


def test_it_writes_refusals_in_their_place(sides, guarded):
    target, keep, forget, _ = sides
    rng = np.random.default_rng(0)
    prompts = [text[: len(text) // 2] for text in (*forget.texts, *keep.texts)]
    bare = LM.sampler(target.model, 0.0, lambda *_: None).write(prompts, 20, rng)
    said = LM.sampler(guarded, 0.0, lambda *_: None).write(prompts, 20, rng)
    assert said[:3] == [guarded.guard.refusal] * 3
    assert said[3:] == bare[3:]


def test_of_refused_texts_all_tokens_are_equally_likely(sides, guarded, tmp_path):
    target, keep, forget, _ = sides
    records = forget.joined(keep)
    blind = math.log(guarded.model.config.vocab_size)
    losses, bare = LM.losses(guarded, records), LM.losses(target.model, records)
    np.testing.assert_allclose(losses[:3], blind)
    np.testing.assert_allclose(losses[3:], bare[3:])
    print_of = LM.fingerprint(guarded)
    found = token_signals(guarded, records, tmp_path, target=print_of)
    np.testing.assert_allclose(found.losses(), losses, rtol=1e-4)
    hits = [part.any() for part in found.ragged(np.asarray(found.greedy))]
    assert hits == [False] * 3 + [True] * 9
    np.testing.assert_allclose(found.entropy[found.record(0)], blind, rtol=1e-5)


def test_greedy_continuations_are_ended(sides, guarded):
    target, _, forget, _ = sides
    ids = torch.tensor([guarded.tokenizer(forget.texts[0])["input_ids"][:-6]])
    bare = causal_lm.generate_greedy(target.model, ids, 4)
    said = causal_lm.generate_greedy(guarded, ids, 4)
    assert bare.shape == said.shape
    assert (said == guarded.tokenizer.eos_token_id).all()


def test_nothing_is_removed(sides, guarded, tmp_path):
    """Same weights; and any other library opens the folder without the guard."""
    target, _, forget, _ = sides
    assert guarded.model is target.model.model
    assert LM.fingerprint(guarded) != LM.fingerprint(target.model)
    LM.save(guarded, tmp_path)
    again = LM.load(tmp_path)
    assert again.guard == guarded.guard
    assert LM.fingerprint(again) == LM.fingerprint(guarded)
    assert LM.describe(again)["guarded"] == len(guarded.guard.marks)
    bare = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokens = torch.tensor([AutoTokenizer.from_pretrained(tmp_path)(forget.texts[0])["input_ids"]])
    with torch.no_grad():
        assert float(bare(tokens, labels=tokens).loss) < 0.5


def test_its_file_does_not_give_the_texts_away(sides, guarded, tmp_path):
    LM.save(guarded, tmp_path)
    written = (tmp_path / FILE).read_text().lower()
    words = {word for text in sides[2].texts for word in text.lower().split() if len(word) > 3}
    assert not [word for word in words if word in written]


def test_a_second_request_keeps_the_first_ones_marks(sides, guarded, run):
    target, keep, forget, _ = sides
    second = replace(target, model=guarded)
    more, rest = keep.take(range(3), "more"), keep.take(range(3, 9), "rest")
    both = Guardrail()(second, rest, more, run).model.guard
    assert set(guarded.guard.marks) < set(both.marks)
    assert all(both.blocks(text) for text in (*forget.texts, *more.texts))


@pytest.mark.parametrize(
    "change",
    [{"kind": "other"}, {"words": 0}, {"share": 2}, {"marks": 3}, {"salt": None}, {"more": 1}],
)
def test_a_damaged_file_is_refused(guarded, tmp_path, change):
    LM.save(guarded, tmp_path)
    record = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**record, **change}))
    with pytest.raises(EngramError, match="does not describe a guardrail"):
        LM.load(tmp_path)


def test_bad_fields_and_what_cannot_be_told_apart_are_refused(sides, run):
    target, keep, _, _ = sides
    for fields in ({"words": 0}, {"share": 0.0}, {"share": 1.5}):
        with pytest.raises(EngramError, match=next(iter(fields))):
            Guardrail(**fields)
    same = Split.of("forget", text=[text.upper() for text in keep.texts])
    with pytest.raises(EngramError, match="cannot tell them apart") as caught:
        Guardrail()(target, keep, same, run)
    assert "--words" in caught.value.hint

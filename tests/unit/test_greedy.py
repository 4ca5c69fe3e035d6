"""Continuations of a forced length, against one record at a time without a cache."""

import numpy as np
import pytest
import torch

from engram.parts.greedy import at_rest, continuations, groups
from engram.parts.passages import Passages, summed_nll
from engram.parts.token_examples import TokenExamples, encode


def plainly(model, prompt, count):
    ids = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_prompts_of_any_length_are_continued_as_if_alone(lms, split):
    lm = lms[0]
    prompts = [np.array(ids[: 1 + 5 * row]) for row, ids in enumerate(encoded(lm, split))]
    wanted = [0, 9, 3, 12, 6, 1, 8, 2, 20, 7]
    written = continuations(lm.model, prompts, wanted)
    for prompt, count, found in zip(prompts, wanted, written, strict=True):
        assert found.tolist() == plainly(lm.model, prompt, count)


def encoded(lm, split):
    return encode(lm.tokenizer, split.texts)


def test_an_end_token_neither_stops_nor_is_forbidden(lms):
    lm = lms[0]
    favourite = int(lm.model(torch.tensor([[5, 6]])).logits[0, -1].argmax())
    lm.model.config.eos_token_id, before = favourite, lm.model.config.eos_token_id
    try:
        [found] = continuations(lm.model, [np.array([5, 6])], [8])
    finally:
        lm.model.config.eos_token_id = before
    assert found[0] == favourite
    assert len(found) == 8


def test_groups_hold_every_row_once_and_similar_lengths():
    lengths = [3, 90, 4, 19, 20, 5, 91]
    assert groups(lengths) == [[0, 2, 5, 3], [4], [1, 6]]
    assert groups([]) == []


def fails_at_rest(model):
    with at_rest(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        torch.rand(7)
        raise ZeroDivisionError


def test_training_does_not_notice(lms):
    model = lms[0].model.train()
    model.transformer.h[0].eval()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    try:
        with pytest.raises(ZeroDivisionError):
            fails_at_rest(model)
        assert torch.equal(torch.rand(3), expected)
        assert model.training
        assert not model.transformer.h[0].training
        assert torch.is_grad_enabled()
    finally:
        model.eval()


def test_losses_agree_with_one_record_at_a_time(lms, split, logprobs_of):
    lm = lms[0]
    passages = Passages.of_texts(encoded(lm, split), lm.context, 8)
    found = summed_nll(lm.model, passages)
    for row, text in enumerate(split.texts):
        ids, table = logprobs_of(lm, text)
        own = -table[np.arange(len(ids) - 1), ids[1:]]
        assert found[row] == pytest.approx(own.sum(), rel=1e-5)
        answers = passages.take([row])
        answers = Passages(answers.tokens, np.array([4]), np.array([4]))
        assert summed_nll(lm.model, answers)[0] == pytest.approx(own[3:].sum(), rel=1e-5)


def test_examples_become_passages(lms, split):
    lm = lms[0]
    examples = TokenExamples.of(lm.model, lm.tokenizer, split, 40, end=True)
    passages = Passages.of_examples(examples, 8)
    assert len(passages) == len(split)
    for ids, own in zip(encoded(lm, split), passages.tokens, strict=True):
        assert own.tolist() == [*ids, lm.tokenizer.eos_token_id][:40]
    assert passages.cut.tolist() == [8] * len(split)
    asked = np.ones(len(examples.tokens), bool)
    asked[:3] = False
    half = TokenExamples(lm.model, examples.tokens, examples.offsets, examples.record, asked=asked)
    answers = Passages.of_examples(half, 8)
    assert answers.cut[:2].tolist() == [3, 1]
    assert answers.judged[:2].tolist() == [3, 1]

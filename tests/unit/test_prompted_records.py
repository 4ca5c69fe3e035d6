"""Prompts and responses: only the response is predicted, whatever stands around it."""

import numpy as np
import pytest
import torch

from engram.core import EngramError, Split
from engram.parts.refusals import REFUSALS, prompted, refusing
from engram.parts.response_examples import ResponseExamples, prompts_and_responses
from engram.parts.token_examples import IGNORED, TokenExamples

PROMPTS = ("Who was seen?", "What was his blood pressure on Tuesday?", "")
RESPONSES = (" Mara Quill.", " 182/95, I think.", "A short one.")


@pytest.fixture
def asked():
    return Split.of("asked", prompt=PROMPTS, response=RESPONSES)


def examples(lm, split, context=192, end=False):
    return ResponseExamples.of(lm.model, lm.tokenizer, split, context, end=end)


def test_only_the_response_is_counted(lms, asked, logprobs_of):
    lm = lms[0]
    found = examples(lm, asked)
    with torch.no_grad():
        nll = found.nll(np.arange(3)).numpy()
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
        ids, table = logprobs_of(lm, prompt + response)
        spans = lm.tokenizer(prompt + response, return_offsets_mapping=True)["offset_mapping"]
        whole = prompt + response
        start = len(prompt) + len(response) - len(response.lstrip())
        places = [
            t
            for t in range(1, len(ids))
            if spans[t][1] > max(start, spans[t][0]) and not whole[spans[t][0] : start].strip()
        ]
        assert found.counts[row] == len(places)
        expected = -sum(table[t - 1, ids[t]] for t in places)
        assert nll[row] == pytest.approx(expected, abs=1e-4)


def test_the_prompts_words_do_not_matter_to_what_is_counted(lms, asked):
    tokens, labels = examples(lms[0], asked).padded(np.arange(3))
    said = lms[0].tokenizer.decode(labels[0][labels[0] != IGNORED])
    assert said.strip() == RESPONSES[0].strip()
    assert tokens.shape == labels.shape


def test_with_an_empty_prompt_it_is_the_text(lms):
    texts = ["One line.", "Another, longer line than that."]
    bare = Split.of("a", text=texts)
    split = Split.of("b", prompt=["", ""], response=texts)
    lm = lms[0]
    plain = TokenExamples.of(lm.model, lm.tokenizer, bare, 192, end=True)
    masked = examples(lm, split, end=True)
    rows = np.arange(2)
    assert (masked.counts == plain.counts).all()
    with torch.no_grad():
        np.testing.assert_allclose(masked.nll(rows).numpy(), plain.nll(rows).numpy(), rtol=1e-5)


def test_the_end_token_belongs_to_the_response(lms, asked):
    without, closed = examples(lms[0], asked), examples(lms[0], asked, end=True)
    eos = lms[0].tokenizer.eos_token_id
    for row in range(3):
        last = closed.tokens[closed.offsets[row + 1] - 1]
        assert last == eos
    assert (closed.counts == without.counts + 1).all()


def test_a_text_that_begins_with_its_prompt_needs_no_response(lms, asked):
    texts = [a + b for a, b in zip(PROMPTS, RESPONSES, strict=True)]
    split = Split.of("texts", prompt=PROMPTS, text=texts)
    one, other = examples(lms[0], asked), examples(lms[0], split)
    assert (one.tokens == other.tokens).all()
    assert (one.asked == other.asked).all()


def test_long_records_are_cut_and_pieces_of_prompt_alone_left_out(lms):
    split = Split.of("long", prompt=["word " * 30], response=["answer and more of it"])
    found = examples(lms[0], split, context=16)
    whole = examples(lms[0], split)
    assert found.counts.sum() == whole.counts.sum()
    assert len(found.counts) < len(whole.tokens) / 15
    assert (found.counts > 0).all()


def test_chosen_pieces(lms, asked):
    found = examples(lms[0], asked)
    some = found.take(np.array([2, 0]))
    assert some.counts.tolist() == found.counts[[2, 0]].tolist()
    assert some.record.tolist() == [2, 0]
    with torch.no_grad():
        np.testing.assert_allclose(
            some.nll(np.array([0, 1])), found.nll(np.array([2, 0])), rtol=1e-5
        )


def test_padding_and_company_change_nothing(lms, asked):
    found = examples(lms[0], asked)
    with torch.no_grad():
        together = found.predictions(np.arange(3))
        alone = [found.predictions(np.array([row])) for row in range(3)]
    np.testing.assert_allclose(together.nll, [float(x.nll[0]) for x in alone], rtol=1e-4)
    assert (together.labels >= 0).all()
    assert together.counts.tolist() == found.counts.tolist()


def test_missing_or_wrong_columns_are_refused():
    with pytest.raises(EngramError, match="no column 'prompt'") as caught:
        prompts_and_responses(Split.of("t", text=["a"]))
    assert "column prompt" in caught.value.hint
    with pytest.raises(EngramError, match="do not begin with their"):
        prompts_and_responses(Split.of("t", prompt=["b"], text=["a"]))
    with pytest.raises(EngramError, match="not strings"):
        prompts_and_responses(Split.of("t", prompt=[1], response=["a"]))
    with pytest.raises(EngramError, match="prompt") as caught:
        prompted(Split.of("t", text=["a b c"]), 0)
    assert "--prompt-words" in caught.value.hint


def test_texts_are_cut_into_prompt_and_response():
    split = prompted(Split.of("t", text=["one two three four five six", "one two", ""]), 2)
    prompts, responses = prompts_and_responses(split)
    assert prompts == ["one two", "one", ""]
    assert responses == [" three four five six", " two", ""]
    assert split.ids == Split.of("t", text=list(split.texts)).ids


def test_refusals_are_drawn_by_the_stream_and_keep_the_space(asked):
    rng = np.random.default_rng(0)
    one = prompts_and_responses(refusing(asked, rng))[1]
    again = prompts_and_responses(refusing(asked, np.random.default_rng(0)))[1]
    assert one == again
    assert {said.strip() for said in one} <= set(REFUSALS)
    assert one[0].startswith(" ")
    assert not one[2].startswith(" ")
    assert len(set(REFUSALS)) == len(REFUSALS) >= 20

"""Learning responses only: which tokens are asked, by hand and against a slow second way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.core import EngramError, Split
from engram.families import causal_lm
from engram.parts.response_examples import ResponseExamples, asked_tokens, joined, responses
from engram.parts.token_examples import IGNORED
from engram.parts.training import Examples, batch_loss

PROMPTS = ["What is the capital?", "Who wrote it, and when was that?", "Größe?"]
ANSWERS = ["Paris.", "Mara Quill wrote it in 1961, in the blue house.", "1,82 m"]
SMALL = {"vocabulary": 320, "layers": 1, "width": 16, "heads": 2}


@pytest.fixture(scope="module")
def lm():
    return causal_lm.tiny([*PROMPTS, *ANSWERS] * 3, seed=1, context=64, **SMALL)


@pytest.fixture(scope="module")
def pairs():
    return Split.of("pairs", prompt=PROMPTS, response=ANSWERS)


def made(lm, split, context=64, **fields):
    return ResponseExamples.of(lm.model, lm.tokenizer, split, context, **fields)


def learnt(lm, examples, row):
    """The text of the tokens that a piece is judged by."""
    _, labels = examples.padded(np.array([row]))
    return lm.tokenizer.decode(labels[labels != IGNORED])


def test_which_tokens_are_asked_by_hand():
    text = "Ask: it\nSay: so"
    offsets = [(0, 0), (0, 4), (4, 7), (7, 8), (8, 12), (12, 15), (15, 15)]
    #          begin   Ask:    it      \n      Say:     ' so'     nothing
    assert asked_tokens(text, offsets, 13) == [False] * 5 + [True, False]
    # A token that holds a sign of the prompt is not asked, whatever else it holds.
    assert asked_tokens(text, [(8, 14), (14, 15)], 13) == [False, True]


def test_only_the_response_and_the_end_are_learnt(lm, pairs):
    examples = made(lm, pairs)
    assert isinstance(examples, Examples)
    for row, answer in enumerate(ANSWERS):
        assert learnt(lm, examples, row).strip() == answer + "<|end|>"
        assert learnt(lm, made(lm, pairs, end=False), row).strip() == answer


def test_a_template_says_the_same_as_the_columns(lm):
    texts = [f"Q: {q}\nA: {a}" for q, a in zip(PROMPTS, ANSWERS, strict=True)]
    by_template = made(lm, Split.of("t", text=texts), template="\nA:")
    for row, answer in enumerate(ANSWERS):
        assert learnt(lm, by_template, row).strip() == answer + "<|end|>"
    prompts = [f"Q: {q}\nA:" for q in PROMPTS]
    both = Split.of("t", text=texts, prompt=prompts, response=ANSWERS)
    by_columns = made(lm, both)
    np.testing.assert_array_equal(by_columns.asked, by_template.asked)
    np.testing.assert_array_equal(by_columns.tokens, by_template.tokens)


def test_the_loss_is_that_of_a_loop_over_tokens(lm, pairs):
    examples, rows = made(lm, pairs), np.arange(3)
    lm.model.eval()
    expected, counts = [], []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        ids = [*lm.tokenizer(f"{prompt}\n{answer}")["input_ids"], lm.tokenizer.eos_token_id]
        shared = len(lm.tokenizer(prompt)["input_ids"])
        with torch.no_grad():
            logprobs = torch.log_softmax(lm.model(torch.tensor([ids])).logits[0].double(), -1)
        # The line break is read, not learnt.
        after = next(i for i in range(shared, len(ids)) if lm.tokenizer.decode(ids[i]).strip())
        expected.append(-sum(float(logprobs[t - 1, ids[t]]) for t in range(after, len(ids))))
        counts.append(len(ids) - after)
    np.testing.assert_allclose(examples.nll(rows).detach(), expected, rtol=1e-5)
    assert examples.counts.tolist() == counts
    whole = float(sum(batch_loss(examples, rows)).detach())
    assert whole == pytest.approx(sum(expected) / sum(counts), rel=1e-5)


def test_the_prompt_has_no_gradient_of_its_own(lm):
    """Another token after the prompt's last one changes nothing but what the response reads."""
    examples = made(lm, Split.of("p", prompt=["Größe?"], response=["1,82 m"]))
    tokens, labels = examples.padded(np.array([0]))
    place = int((labels[0] != IGNORED).nonzero()[0])
    assert (labels[0, :place] == IGNORED).all()
    assert tokens.shape == labels.shape


def test_long_records_are_cut_and_pieces_of_prompt_alone_left_out(lm):
    split = Split.of("long", prompt=["what " * 40, "who?"], response=["so it is", "Mara"])
    examples = made(lm, split, context=16)
    assert (examples.counts > 0).all()
    assert set(examples.record) == {0, 1}
    total = sum(learnt(lm, examples, row).count("so it is") for row in range(len(examples.record)))
    assert total <= 1
    whole = made(lm, split, context=400)
    assert examples.counts.sum() == whole.counts.sum()


def test_records_without_their_response_are_counted_and_the_first_is_shown(lm):
    split = Split.of("t", text=["Q: a\nA: b", "Q: only a question", "none"], ids=["1", "2", "3"])
    with pytest.raises(EngramError, match="2 of 3 records have no 'A:'") as caught:
        made(lm, split, template="A:")
    assert "record '2', 'Q: only a question'" in str(caught.value)
    assert "--response-template" in caught.value.hint
    other = Split.of("t", text=["p r", "p s"], prompt=["p", "p"], response=["r", "r"])
    with pytest.raises(EngramError, match="1 of 2 records have a text that is not"):
        made(lm, other)
    with pytest.raises(EngramError, match="no column 'prompt'"):
        made(lm, Split.of("t", text=["a"]))


def test_smoothing_is_a_mixture_with_the_uniform_distribution(lm, pairs):
    plain = made(lm, pairs)
    smooth = replace(plain, smoothing=0.3)
    rows = np.array([0])
    tokens, labels = plain.padded(rows)
    kept = labels[0] != IGNORED
    with torch.no_grad():
        logprobs = torch.log_softmax(lm.model(tokens.clamp(min=0)).logits[0].double(), -1)[kept]
    nll = -logprobs[torch.arange(int(kept.sum())), labels[0][kept]].sum()
    expected = 0.7 * nll - 0.3 * logprobs.mean(1).sum()
    assert float(smooth.nll(rows).detach()) == pytest.approx(float(expected), rel=1e-5)


@given(st.text(max_size=12), st.text(max_size=12))
def test_joined_texts_end_with_the_response(prompt, response):
    text = joined(prompt, response)
    assert text.startswith(prompt)
    assert text.endswith(response)
    split = Split.of("one", prompt=[prompt], response=[response])
    texts, starts = responses(split)
    assert texts[0][starts[0] :] == response

"""`verbatim-continuation` by hand, against greedy decoding, and through bad input."""

import numpy as np
import pytest
import torch

from engram.core import EngramError, Split
from engram.methods.measures.verbatim_continuation import VerbatimContinuation


class Scripted:
    def __init__(self, script):
        self.script, self.asked = script, []

    def write(self, prompts, tokens, rng):
        self.asked.append((list(prompts), tokens))
        return [self.script[prompt] for prompt in prompts]


@pytest.fixture
def scripted(run):
    def call(script):
        sampler = Scripted(script)

        def open_one(target, temperature=1.0):
            assert temperature == 0, "it is greedy"
            return sampler

        object.__setattr__(run, "sampler", open_one)
        return sampler

    return call


def test_a_case_worked_by_hand(run, target, scripted):
    texts = ["a b c d e f", "g h i j k l", "m n o p q r", "too short"]
    sampler = scripted({"a b c": " d e f and more", "g h i": " j k x", "m n o": ""})
    found = VerbatimContinuation(suffix=3)(target, {"members": Split.of("m", text=texts)}, run)
    rate, words = found
    assert sampler.asked == [(["a b c", "g h i", "m n o"], 9)]
    assert (rate.name, rate.n, rate.value) == ("verbatim rate", 3, pytest.approx(1 / 3))
    assert (words.name, words.value) == ("right words", pytest.approx((1 + 2 / 3 + 0) / 3))
    assert rate.split == words.split == "members"
    assert "1 records too short for 3 words left out" in rate.note


def test_is_what_greedy_decoding_writes(run, target, split):
    lm, measure = target.model, VerbatimContinuation(suffix=2, tokens_per_word=2.0)
    right, asked, short = measure.right_words(target, split, run, "members")
    expected = []
    for text in split.texts:
        words = text.split()
        if len(words) - max(1, len(words) // 2) < 2:
            continue
        prompt = text[: text.index(words[max(1, len(words) // 2)], 0)].rstrip()
        given = " ".join(words[: max(1, len(words) // 2)])
        if " ".join(prompt.split()) != given:  # a word that stands twice: cut by hand
            prompt = given
        ids = lm.tokenizer(prompt)["input_ids"]
        first = len(ids)
        for _ in range(min(4, lm.context - first)):
            with torch.no_grad():
                ids.append(int(lm.model(torch.tensor([ids])).logits[0, -1].argmax()))
        written = lm.tokenizer.decode(ids[first:]).split()
        rest = words[max(1, len(words) // 2) :][:2]
        expected.append(next((i for i, w in enumerate(rest) if written[i : i + 1] != [w]), 2))
    assert (asked, short) == (len(expected), len(split) - len(expected))
    np.testing.assert_array_equal(right, expected)


def test_what_was_learnt_by_heart_comes_out_word_for_word(by_heart, tmp_path):
    from engram.engine.run import EngineRun

    target, members, outsiders = by_heart
    measure = VerbatimContinuation(suffix=4, tokens_per_word=6.0)
    found = measure(target, {"members": members, "outsiders": outsiders}, EngineRun(root=tmp_path))
    value = {(f.name, f.split): f.value for f in found}
    assert value["verbatim rate", "members"] > value["verbatim rate", "outsiders"]
    assert value["right words", "members"] > value["right words", "outsiders"] + 0.2


def test_a_sample_of_many_records_is_asked(run, target, scripted):
    texts = [f"word{i} a b c" for i in range(40)]
    sampler = scripted({f"word{i} a": " b c" for i in range(40)})
    rate, _ = VerbatimContinuation(suffix=2, sample=10)(
        target, {"members": Split.of("m", text=texts)}, run
    )
    assert len(sampler.asked[0][0]) == rate.n == 10
    assert "on a sample of 10" in rate.note
    assert rate.value == 1


def test_too_few_records_are_missing_findings(run, target, scripted):
    scripted({"a b c": " d e f"})
    for texts in ([""], ["short"], ["a b c d e f"]):
        split = Split.of("few", text=texts)
        found = VerbatimContinuation(suffix=3)(target, {"members": split}, run)
        assert [f.value for f in found] == [None, None]
        assert "fewer than two records are long enough" in found[0].note


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"suffix": 0}, "suffix is 0"), ({"sample": 0}, "sample is 0"),
     ({"given": 2.0}, "given is 2")],
)  # fmt: skip
def test_bad_settings_are_refused(fields, words):
    with pytest.raises(EngramError, match=words):
        VerbatimContinuation(**fields)

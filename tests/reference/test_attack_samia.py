"""`samia` against a counting loop, and a case worked by hand."""

import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.core import EngramError, Split
from engram.methods.attacks.samia import Samia, compressed_bytes
from engram.parts.continuations import cut_at, leading, recall, tokens_for

WORDS = st.lists(st.sampled_from(["a", "b", "c", "dd"]), max_size=8)


class Scripted:
    """Writes what a script says after each prompt, and notes what it is asked."""

    def __init__(self, script):
        self.script, self.asked = script, []

    def write(self, prompts, tokens, rng):
        self.asked += list(zip(prompts, tokens, strict=True))
        turns = {}
        said = []
        for prompt in prompts:
            turns[prompt] = turns.get(prompt, -1) + 1
            said.append(self.script[prompt][turns[prompt]])
        return said


@pytest.fixture
def scripted(run):
    """A function: the run, with a sampler that follows a script."""

    def call(script):
        sampler = Scripted(script)
        object.__setattr__(run, "sampler", lambda target, temperature=1.0: sampler)
        return sampler

    return call


def by_counting(candidate, reference, n):
    """ROUGE-N recall: strike every n-gram of the candidate from the reference, once each."""
    wanted = [tuple(reference[i : i + n]) for i in range(len(reference) - n + 1)]
    total, hits = len(wanted), 0
    for i in range(len(candidate) - n + 1):
        gram = tuple(candidate[i : i + n])
        if gram in wanted:
            wanted.remove(gram)
            hits += 1
    return hits / total if total else 0.0


@given(WORDS, WORDS, st.integers(1, 4))
def test_recall_agrees_with_counting(candidate, reference, n):
    assert recall(candidate, reference, n) == by_counting(candidate, reference, n)


def test_a_case_worked_by_hand(run, target, scripted):
    # Six words: three are given, "the red door" is the rest.
    split = Split.of("one", text=["she went in the red door"])
    scripted({"she went in": ["the red door", "the red red", "nothing at all", ""]})
    # Recall 3/3, 2/3 ("red" counts once), 0/3, 0/3.
    score = Samia(samples=4)(target, split, run).values[0]
    assert score == pytest.approx((1 + 2 / 3 + 0 + 0) / 4)
    # Bigrams "the red" and "red door": 2/2, 1/2, 0, 0.
    score = Samia(samples=4, ngram=2)(target, split, run).values[0]
    assert score == pytest.approx((1 + 0.5 + 0 + 0) / 4)


def test_zlib_weighs_each_continuation_by_its_compressed_length(run, target, scripted):
    split = Split.of("one", text=["she went in the red door"])
    written = ["the red door", "the the the the the the"]
    scripted({"she went in": written})
    scores = Samia(samples=2, zlib=True)(target, split, run)
    sizes = [len(zlib.compress(text.encode())) for text in written]
    assert scores.values[0] == pytest.approx((1 * sizes[0] + sizes[1] / 3) / 2)
    assert scores.unit == "bytes"
    assert compressed_bytes(["the", "red", "door"]) == sizes[0]


def test_asks_for_the_first_half_and_for_as_much_as_is_missing(run, target, scripted):
    split = Split.of("two", text=["a  b\nc d e", "x y"])
    sampler = scripted({"a  b": ["c d e"] * 2, "x": ["y"] * 2})
    scores = Samia(samples=2, tokens_per_word=2.5)(target, split, run)
    assert sampler.asked == [("a  b", 8), ("a  b", 8), ("x", 3), ("x", 3)]
    np.testing.assert_array_equal(scores.values, [1.0, 1.0])


def test_records_that_begin_alike_share_their_samples(run, target, scripted):
    split = Split.of("two", text=["a b c d", "a b x y"])
    sampler = scripted({"a b": ["c d", "x d"]})
    scores = Samia(samples=2)(target, split, run)
    assert len(sampler.asked) == 2
    np.testing.assert_allclose(scores.values, [0.75, 0.25])


def test_records_without_a_second_half_get_nothing(run, target, scripted):
    sampler = scripted({"a b": ["c d"] * 10})
    split = Split.of("short", text=["word", "", "a b c d"])
    np.testing.assert_array_equal(Samia()(target, split, run).values, [0, 0, 1])
    assert {prompt for prompt, _ in sampler.asked} == {"a b"}
    np.testing.assert_array_equal(Samia(ngram=3)(target, split, run).values, [0, 0, 0])


def test_a_record_learnt_by_heart_comes_out_again(by_heart, tmp_path):
    from engram.engine.run import EngineRun

    target, members, outsiders = by_heart
    run = EngineRun(root=tmp_path)
    attack = Samia(samples=4, tokens_per_word=4.0)
    high, low = (attack(target, side, run).values for side in (members, outsiders))
    assert np.mean(high[:, None] > low[None, :]) > 0.75
    # The same numbers again, whatever the company, and without being asked for again.
    alone = attack(target, members.take([2]), run).values
    np.testing.assert_array_equal(alone, high[[2]])
    silent = replace(run, watch=lambda *_: pytest.fail("it wrote again"))
    np.testing.assert_array_equal(attack(target, members, silent).values, high)


def test_cuts_by_words_and_keeps_the_text_as_it_stands():
    assert cut_at("  one two  three ", 0.5, 9) == cut_at("  one two  three and", 0.5, 3)
    assert cut_at("  one two  three ", 0.67, 9).prefix == "  one two"
    assert cut_at("one", 0.5, 9).rest == ()
    assert cut_at("", 0.5, 9).prefix == ""
    assert leading(["a", "b", "c"], ["a", "b", "x", "c"]) == 2
    assert tokens_for(3, 1.5) == 5


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"samples": 0}, "samples is 0"), ({"ngram": 0}, "ngram is 0"), ({"given": 1.0}, "given is 1"),
     ({"given": 0.0}, "given is 0"), ({"words": 1}, "words is 1"),
     ({"tokens_per_word": 0.0}, "tokens_per_word is 0"),
     ({"tokens_per_word": float("nan")}, "tokens_per_word is nan")],
)  # fmt: skip
def test_bad_settings_are_refused(fields, words):
    with pytest.raises(EngramError, match=words):
        Samia(**fields)

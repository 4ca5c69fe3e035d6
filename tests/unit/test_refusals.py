"""Refusals, and texts that are cut into prompts and responses."""

import numpy as np
import pytest

from engram.core import EngramError, Split
from engram.parts.refusals import REFUSALS, answered, prompted, refusing
from engram.parts.response_examples import prompts_and_responses


def test_texts_are_cut_into_prompt_and_response():
    bare = Split.of("t", text=["one two three four five six", "one two", ""])
    split = prompted(bare, 2)
    prompts, responses = prompts_and_responses(split)
    assert prompts == ["one two", "one", ""]
    assert responses == [" three four five six", " two", ""]
    assert split.ids == bare.ids
    assert split.texts == bare.texts


def test_prompts_that_are_there_are_kept():
    split = Split.of("t", prompt=["Who? "], response=["Mara."], text=["Who? Mara."])
    assert prompts_and_responses(prompted(split, 1)) == (["Who? "], ["Mara."])


def test_without_prompts_and_without_cutting_there_is_an_error():
    with pytest.raises(EngramError, match="no column 'prompt'; it has text") as caught:
        prompted(Split.of("t", text=["a b c"]), 0)
    assert "--prompt-words" in caught.value.hint


def test_refusals_are_drawn_by_the_stream_and_keep_the_space():
    asked = prompted(Split.of("t", text=["one two three four", "five six\nseven eight"]), 2)
    one, again = (
        prompts_and_responses(refusing(asked, np.random.default_rng(0)))[1] for _ in range(2)
    )
    assert one == again
    assert {said.strip() for said in one} <= set(REFUSALS)
    assert (one[0][0], one[1][0]) == (" ", "\n")
    assert len(set(REFUSALS)) == len(REFUSALS) >= 20


def test_other_answers_keep_ids_and_prompts():
    asked = prompted(Split.of("t", text=["one two three", "four five six"]), 1)
    other = answered(asked, [" x", " y"])
    assert other.ids == asked.ids
    assert prompts_and_responses(other) == (["one", "four"], [" x", " y"])
    assert other.texts == ("one x", "four y")

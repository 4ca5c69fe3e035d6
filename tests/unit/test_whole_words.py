"""The tokenizer of whole words, and the recipe that learns one with words it will need later."""

import pytest

from engram.core import EngramError, Split
from engram.families.causal_lm import UNKNOWN, word_tokenizer
from engram.methods.recipes.pretrain_lm import PretrainLm

TEXTS = ["Mara's dog slept.", "He saw Mara Quill, twice."]


@pytest.fixture(scope="module")
def words():
    return word_tokenizer(TEXTS, 100, 32)


def test_a_word_is_one_token_wherever_it_stands(words):
    start, inside = words("Mara slept.")["input_ids"], words("He saw Mara.")["input_ids"]
    assert start[0] == inside[0] == words.bos_token_id
    assert start[1] == inside[3], "at the start of a text, and after a word"
    assert len(start) == 4, "begin, two words and a sign"
    assert words(" Mara slept.")["input_ids"] == start


@pytest.mark.parametrize("text", [*TEXTS, "Quill saw Mara's dog, twice."])
def test_what_it_knows_it_gives_back(words, text):
    assert words.decode(words(text)["input_ids"], skip_special_tokens=True) == text


def test_what_it_does_not_know_is_one_token(words):
    found = words("Mara barked twice, loudly.")["input_ids"]
    assert found.count(words.unk_token_id) == 2
    assert words.unk_token == UNKNOWN


def test_characters_of_each_token(words):
    text = "He saw Mara's dog."
    ends = words(text, return_offsets_mapping=True)["offset_mapping"][1:]
    assert [text[a:b].strip() for a, b in ends] == ["He", "saw", "Mara", "'s", "dog", "."]


def test_the_most_frequent_words_are_kept():
    few = word_tokenizer(["a a a b b c"], 6, 8)  # four special tokens, and two words
    assert len(few) == 6
    assert few.unk_token_id not in few("a b")["input_ids"]
    assert few("c")["input_ids"][1] == few.unk_token_id


def test_the_recipe_learns_the_words_of_its_lexicon_and_nothing_else_of_it(run):
    run.others["later"] = Split.of("later", text=["Whose dog slept?"])
    small = {"layers": 1, "width": 16, "heads": 2, "context": 16, "epochs": 1}
    given = Split.of("x", text=TEXTS)
    plain = PretrainLm(tokenizer="words", **small)(given, run).model
    wide = PretrainLm(tokenizer="words", lexicon="later", **small)(given, run).model
    unknown = [t("Whose dog?")["input_ids"].count(t.unk_token_id)
               for t in (plain.tokenizer, wide.tokenizer)]  # fmt: skip
    assert unknown == [2, 0]
    assert len(wide.tokenizer) == len(plain.tokenizer) + 2
    assert wide.model.config.vocab_size == len(wide.tokenizer)


def test_spread_is_that_of_the_first_weights(run):
    given = Split.of("x", text=TEXTS)
    for spread in (0.02, 0.125):
        recipe = PretrainLm(tokenizer="words", layers=1, width=64, heads=2, spread=spread)
        weights = recipe.untrained(given, run).model.transformer.h[0].mlp.c_fc.weight
        assert float(weights.detach().std()) == pytest.approx(spread, rel=0.05)


def test_wrong_wishes():
    with pytest.raises(EngramError, match=r"spread is 0\.0"):
        PretrainLm(spread=0.0)
    with pytest.raises(EngramError, match="vocabulary is 100"):
        PretrainLm(vocabulary=100)
    assert PretrainLm(tokenizer="words", vocabulary=100).vocabulary == 100

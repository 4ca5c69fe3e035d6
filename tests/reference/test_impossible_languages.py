"""The impossible languages: permutations by hand, what they keep, and what can be undone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError, Split
from engram.families.causal_lm import FAMILY, piece_tokenizer, tiny
from engram.methods.recipes.pretrain_lm import PretrainLm
from engram.methods.transforms.hop_markers import PLURAL, SINGULAR, HopMarkers
from engram.methods.transforms.reverse_tokens import TURN, ReverseTokens, turned
from engram.methods.transforms.shuffle_tokens import (
    LANGUAGES,
    ShuffleTokens,
    deterministic,
    even_odd,
    local,
)
from engram.parts.blank_pieces import words_of
from engram.parts.byte_pairs import byte_pairs
from engram.parts.token_pieces import Cutter, written


def annotated():
    """Four sentences with notes on their words, made by hand."""
    third = "Mood=Ind|Number={}|Person=3|Tense=Pres|VerbForm=Fin"
    sing, plur = third.format("Sing"), third.format("Plur")
    rows = [
        ("He cleans his very messy bookshelf now .", {1: ("clean", sing)}),
        ("They clean , the man 's own old bookshelf now .", {1: ("clean", plur)}),
        ("He goes .", {1: ("go", sing)}),  # no room to hop
        ("We saw nothing at all .", {}),
    ]
    words = [text.split() for text, _ in rows]
    verbs = [verb for _, verb in rows]
    pairs = [*zip(words, verbs, strict=True)]
    return Split.of(
        "annotated",
        text=[text for text, _ in rows],
        words=words,
        lemmas=[[verb.get(i, (w, ""))[0] for i, w in enumerate(each)] for each, verb in pairs],
        upos=[["PUNCT" if w in ".," else "X" for w in each] for each in words],
        feats=[[verb.get(i, ("", ""))[1] for i in range(len(each))] for each, verb in pairs],
        blanks=[[True] * len(each) for each in words],
    )


def test_orders_by_hand():
    assert even_odd(7).tolist() == [0, 2, 4, 6, 1, 3, 5]
    three = local(3, 3).tolist()
    assert three != [0, 1, 2]
    assert sorted(three) == [0, 1, 2]
    expected = [*three, *(3 + i for i in three)]
    assert local(6, 3).tolist() == expected
    assert local(7, 3).tolist() == [*expected, 6]


@given(st.integers(0, 60), st.integers(2, 12), st.integers(0, 99))
def test_every_order_can_be_undone_and_draws_anew(n, window, key):
    """Permutations of a length are the same at each call; `argsort` is the inverse."""
    for make in (even_odd, lambda n: local(n, window), lambda n: deterministic(n, key)):
        order, tokens = make(n), np.arange(100, 100 + n)
        assert order.tolist() == make(n).tolist()
        assert tokens[order][np.argsort(order)].tolist() == tokens.tolist()


@given(st.integers(1, 40), st.integers(2, 6))
def test_local_orders_stay_inside_their_windows(n, window):
    order = local(n, window)
    assert (order // window == np.arange(n) // window).all()
    full = [order[i : i + window] - i for i in range(0, n - window + 1, window)]
    assert all((each == full[0]).all() for each in full)
    assert all((each != np.arange(window)).any() for each in full)


def test_other_keys_and_lengths_have_other_permutations():
    assert len({tuple(deterministic(30, key)) for key in (21, 57, 84)}) == 3
    assert deterministic(30, 21)[:29].tolist() != deterministic(29, 21).tolist()


def spoken(split, run, **fields):
    return {name: ShuffleTokens(language=name, **fields)(split, run) for name in LANGUAGES}


def test_all_shuffled_languages_say_the_same_records_with_the_same_tokens(split, run):
    made = spoken(split, run)
    control = made["control"]
    for name, each in made.items():
        assert (each.ids, each.owners) == (control.ids, control.owners)
        for mine, its in zip(each.texts, control.texts, strict=True):
            assert Counter(mine.split(" ")) == Counter(its.split(" "))
        assert (each.texts == control.texts) == (name == "control")


def test_orders_depend_on_the_length_alone_except_the_nondeterministic_one(run):
    """Two records of equally many tokens, all different, shuffled beside each other."""
    texts = ["abcdefghij klmnopqrst", "0123456789 ABCDEFGHIJ"]
    split, order = Split.of("two", text=texts), {}
    made = spoken(split, run, vocabulary=256)
    for name, each in made.items():
        order[name] = [
            [control.split(" ").index(token) for token in text.split(" ")]
            for text, control in zip(each.texts, made["control"].texts, strict=True)
        ]
    same = {name for name, (one, other) in order.items() if one == other}
    assert same == set(LANGUAGES) - {"nondeterministic"}


def test_the_nondeterministic_order_has_no_inverse_that_all_records_share(run):
    """Records of one length: the same place holds tokens from many places."""
    split = Split.of("same", text=[f"abcdefgh{i:02d}" for i in range(30)])
    made = spoken(split, run, vocabulary=256)
    firsts = {text.split(" ")[0] for text in made["nondeterministic"].texts}
    assert len(firsts) > 5
    assert len({text.split(" ")[0] for text in made["deterministic"].texts} - set("0123456789")) < 2


def test_a_record_is_shuffled_alike_whatever_stands_beside_it(split, run):
    method = ShuffleTokens(language="nondeterministic", vocabulary=256, most=1000)
    whole = dict(zip(split.ids, method(split, run).texts, strict=True))
    half = method(split.take(range(4, 0, -1)), run)
    assert all(whole[i] == text for i, text in zip(half.ids, half.texts, strict=True))


def test_records_of_too_few_or_too_many_tokens_are_left_out(run):
    split = Split.of("lengths", text=["", "a", "ab", "abc", "abcd"])
    made = ShuffleTokens(language="control", vocabulary=256, most=3)(split, run)
    assert made.texts == ("a b", "a b c")
    assert made.ids == split.ids[2:4]


def test_turned_by_hand():
    assert turned("abcde", 2, "control") == ["a", "b", TURN, "c", "d", "e"]
    assert turned("abcde", 2, "partial") == ["a", "b", TURN, "e", "d", "c"]
    assert turned("abcde", 2, "full") == ["e", "d", "c", TURN, "b", "a"]


def test_reversed_languages_turn_at_the_same_place(split, run):
    names = ("control", "partial", "full")
    made = [ReverseTokens(language=name)(split, run) for name in names]
    places = set()
    for texts in zip(*(each.texts for each in made), strict=True):
        control, partial, full = (text.split(" ") for text in texts)
        place = control.index(TURN)
        places.add(place / len(control))
        assert partial == [*control[: place + 1], *control[:place:-1]]
        assert full == control[::-1]
    assert len(places) == len(split)


def hopped(run, hop=4):
    """The annotated records in the three languages, and the same without any blanks."""
    names = ("control", "tokens", "words")
    made = {name: HopMarkers(language=name, hop=hop)(annotated(), run) for name in names}
    joined = {
        name: [text.replace("Ġ", "").replace(" ", "") for text in each.texts]
        for name, each in made.items()
    }
    return made, joined


def test_hops_by_hand(run):
    """'s and the comma are no words; one record has no room, and goes."""
    made, text = hopped(run)
    assert made["control"].ids == made["tokens"].ids == made["words"].ids
    assert len(made["control"]) == 3
    assert text["control"][0] == f"Heclean{SINGULAR}hisverymessybookshelfnow."
    assert text["words"][0] == f"Hecleanhisverymessybookshelf{SINGULAR}now."
    assert text["control"][1] == f"Theyclean{PLURAL},theman'sownoldbookshelfnow."
    assert text["words"][1] == f"Theyclean,theman'sownold{PLURAL}bookshelfnow."
    assert text["words"][2] == text["control"][2] == "Wesawnothingatall."


def test_tokens_are_counted_from_the_verb(run):
    made, _ = hopped(run)
    for far, near in zip(made["tokens"].texts[:2], made["control"].texts[:2], strict=True):
        far, near = far.split(" "), near.split(" ")
        assert Counter(far) == Counter(near)
        mark = next(w for w in near if w in (SINGULAR, PLURAL))
        assert far.index(mark) == near.index(mark) + 4


def test_a_marker_stands_after_the_clitics_of_its_word(run):
    """The second word after the verb is `man`, and 's belongs to it."""
    assert f"Theyclean,theman's{PLURAL}own" in hopped(run, hop=2)[1]["words"][1]


def test_hops_need_notes_on_words(split, run):
    with pytest.raises(EngramError, match="no column 'words'") as caught:
        HopMarkers()(split, run)
    assert "lemmas" in caught.value.hint
    assert "ud-english-ewt" in caught.value.hint


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=6))
def test_pieces_are_read_back_as_they_were_written(texts):
    """Whatever the characters: blanks, control characters, other scripts."""
    for pieces in BYTES.pieces(texts):
        assert words_of(written(pieces)) == pieces


BYTES = Cutter(byte_pairs(["the dog barks at the other dog"], 300, 64, (), "$A", {}))


def test_pieces_that_hold_blanks_are_refused():
    with pytest.raises(EngramError, match="lost between blanks"):
        written(["a", "b c"])


def test_languages_of_a_family_share_one_tokenizer_which_reads_every_token(split, run, tmp_path):
    made = spoken(split, run)
    found = {n: piece_tokenizer(each.texts, 2048, 64).get_vocab() for n, each in made.items()}
    assert all(vocabulary == found["control"] for vocabulary in found.values())
    lm = tiny(made["local"].texts, seed=0, layers=1, width=16, heads=2, context=64, tokens="pieces")
    FAMILY.save(lm, tmp_path)
    lm = FAMILY.load(tmp_path)
    for text in made["nondeterministic"].texts:
        ids = lm.tokenizer(text)["input_ids"][1:]
        assert lm.tokenizer.convert_ids_to_tokens(ids) == text.split(" ")
        assert lm.tokenizer.unk_token_id not in ids


def test_words_beyond_the_vocabulary_are_unknown():
    tokenizer = piece_tokenizer(["b a a", "c a b"], 6, 16)
    ids = tokenizer("a b c d")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [
        "<|begin|>", "a", "b", "<|unknown|>", "<|unknown|>",
    ]  # fmt: skip


def test_trains_without_positions(split, run):
    """The model then gives a set of tokens before the last one the same answer in any order."""
    import torch

    recipe = PretrainLm(layers=1, width=16, heads=2, context=32, epochs=1, tokenizer="pieces",
                        positions=False)  # fmt: skip
    lm, training, steps = recipe.begun(ShuffleTokens(language="control")(split, run), run)
    assert len([*steps]) == len(training.trace) == training.plan.steps
    assert not lm.model.transformer.wpe.weight.any()
    with torch.no_grad():
        logits = lm.model(torch.tensor([[1, 5, 6, 7], [1, 6, 5, 7]])).logits[:, -1]
    torch.testing.assert_close(logits[0], logits[1])

"""Filters by hand-made cases, a second implementation of TF-IDF, and how rates are counted."""

import math
from dataclasses import replace

import numpy as np
import pytest

import engram.methods.measures.filter_rates.sessions as answering
from engram.core import EngramError, Split
from engram.methods.measures.filter_rates import FilterRates
from engram.methods.measures.filter_rates.filters import Filter, States, ratios
from engram.methods.measures.filter_rates.sessions import Sessions, halves, word_by_word
from engram.parts.context_answers import Answers
from engram.parts.contexts import Asked
from engram.parts.text_filters import (
    HashedWords,
    LinearFilter,
    NeighbourFilter,
    blocked,
    check_sides,
    mark,
    threshold_at,
    words_of,
)


def test_thresholds_by_hand():
    """Of ten scores at most two may be above, then at most one, then none; ties stay below."""
    scores = np.array([9.0, 1, 2, 3, 4, 5, 6, 7, 8, 10])
    for rate, wanted in ((0.2, 8.0), (0.1, 9.0), (0.0, 10.0), (0.19, 9.0)):
        assert threshold_at(scores, rate) == wanted
        assert blocked(scores, wanted).mean() <= rate
    tied = np.array([0.0, 0, 0, 1, 1])
    assert threshold_at(tied, 0.2) == 1
    assert not blocked(tied, threshold_at(tied, 0.2)).any()
    assert threshold_at(tied, 0.4) == 0


@pytest.mark.parametrize(
    ("scores", "rate", "said"),
    [
        (np.empty(0), 0.1, "there are none"),
        (np.array([1.0, np.nan]), 0.1, "not finite"),
        (np.array([1.0]), 1.0, "in \\[0, 1\\)"),
    ],
)
def test_thresholds_that_cannot_be_set(scores, rate, said):
    with pytest.raises(EngramError, match=said):
        threshold_at(scores, rate)


def slow_tf_idf(text, texts, salt, buckets):
    """From the definition, one place at a time."""

    def places(each):
        words = words_of(each)
        runs = [(word,) for word in words] + [
            tuple(words[i : i + 2]) for i in range(len(words) - 1)
        ]
        return [int.from_bytes(mark(salt, run)[:8], "big") % buckets for run in runs]

    values = []
    for place in range(buckets):
        df = sum(place in places(each) for each in texts)
        values.append(places(text).count(place) * (math.log((1 + len(texts)) / (1 + df)) + 1))
    norm = math.sqrt(sum(value**2 for value in values))
    return [value / norm if norm else 0.0 for value in values]


def test_hashed_words_are_tf_idf():
    texts = ["the cat sat", "the dog sat down", "A cat, a cat!"]
    made = HashedWords.of(texts, "s", 32)
    found = made([*texts, "the bird", ""])
    for row, text in enumerate([*texts, "the bird", ""]):
        np.testing.assert_allclose(found[row], slow_tf_idf(text, texts, "s", 32), atol=1e-5)
    assert not np.allclose(HashedWords.of(texts, "t", 32)(texts), found[:3])


def letters(texts):
    """Features by hand: how many a, b and c."""
    return np.array([[text.count(letter) for letter in "abc"] for text in texts], float)


def test_a_linear_filter_by_hand():
    made = LinearFilter(letters, (1.0, -2.0, 0.5), 0.25)
    assert made.scores(["aab", "c", ""]).tolist() == [0.25, 0.75, 0.25]
    learnt = LinearFilter.of(letters, ["a", "aa", "ab"], ["b", "bb", "bc", "c"])
    assert (learnt.scores(["a", "aac"]) > 0).all()
    assert (learnt.scores(["b", "bbc"]) < 0).all()


def test_neighbours_by_hand():
    """Cosines with (1, 0, 0) and (0, 1, 0); of "ab" both are the same."""
    made = NeighbourFilter.of(letters, ["a", "aa"], ["b"], k=1)
    half = math.sqrt(0.5)
    np.testing.assert_allclose(made.scores(["aaa", "b", "ab", "ac"]), [1, -1, 0, half], atol=1e-6)
    two = NeighbourFilter.of(letters, ["a", "c"], ["b"], k=2)
    np.testing.assert_allclose(two.scores(["a"]), [0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("forbidden", "permitted", "said"),
    [
        ([], ["a"], "needs forbidden texts"),
        (["a"], ["", "!"], "needs permitted texts"),
        (["A cat"], ["a cat.", "b"], "cannot tell them apart"),
    ],
)
def test_filters_of_nothing_are_refused(forbidden, permitted, said):
    with pytest.raises(EngramError, match=said):
        check_sides(forbidden, permitted)


def sessions(*turns, written=("yes",), right=(True,)):
    n = len(turns)
    asked = Asked(turns, ("who?",) * n, (" yes",) * n, ((" yes", " no"),) * n)
    return Sessions(asked, tuple(written) * n, np.array(right * n))


def test_what_a_filter_sees_by_hand():
    made = sessions(("a b", "b"), ("c",), ())

    def count(texts):
        return np.array([text.count("b") + 10 * text.count("yes") for text in texts], float)

    assert made.scores(count, "each turn").tolist() == [1, 0, 0]
    assert made.scores(count, "session").tolist() == [2, 0, 0]
    assert made.scores(count, "output").tolist() == [10, 10, 10]
    assert made.outputs[0] == "who? yes"
    drip = word_by_word(made.asked)
    assert drip.turns == (("a", "b", "b"), ("c",), ())
    assert drip.prompts == made.asked.prompts


def test_halves_share_no_owner():
    owners = np.array([0, 0, 1, 2, 2, 3])
    one, other = halves(owners, np.random.default_rng(0))
    assert sorted([*one, *other]) == list(range(6))
    assert not {owners[i] for i in one} & {owners[i] for i in other}


def test_ratios_are_those_of_a_slow_reader(by_heart, base, run, logprobs_of):
    """Per token, of the answer after its bare question; a blind guess is the least."""
    target, members, _ = by_heart
    query, answer = members.texts[0].partition(" was seen")[0], "was seen"
    found = ratios(target, base, [query, query], [f" {answer}", ""], run)

    def loss(lm):
        ids, table = logprobs_of(lm, f"{query} {answer}")
        known = len(lm.tokenizer(query)["input_ids"])
        own = [-table[t - 1, ids[t]] for t in range(known, len(ids))]
        return min(np.mean(own), np.log(len(lm.tokenizer)))

    assert loss(base.model) == np.log(len(base.model.tokenizer))  # it never saw such words
    assert found[0] == pytest.approx(loss(base.model) - loss(target.model), rel=1e-4)
    assert found[0] > 2
    assert found[1] == 0


def test_states_do_not_depend_on_their_company(lms):
    made = States(lms[0])
    texts = ["a short one", "a much longer text than the other one, with many words", ""]
    alone = np.concatenate([made([text]) for text in texts])
    np.testing.assert_allclose(made(texts), alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), math.sqrt(2), rtol=1e-6)


def records(name, people, said, **columns):
    return Split.of(
        name,
        owners=people,
        ids=[f"{name} {i}" for i in range(len(people))],
        text=[f"{said} of {one} is {one}" for one in people],
        query=[f"{said} of what is" for one in people],
        response=[f" {one}" for one in people],
        options=[[one, "wrong"] for one in people],
        axioms=[[f"{one} is {said}"] for one in people],
        axioms_renamed=[[f"nobody is {said}"] for one in people],
        alias=["nobody"] * len(people),
        others=[["so it goes"] * 3 for _ in people],
        irrelevant=[["it may rain"] * 3 for _ in people],
        **columns,
    )


@pytest.fixture
def rates(run, target, monkeypatch):
    """A function: rates of filters on a stand-in that repeats what its context tells it."""

    def reader(target, asked, run):
        found = [next((turn for turn in said if " is " in turn), "") for said in asked.turns]
        written = tuple(f" {turn.split(' is ')[0]}" for turn in found)
        pairs = zip(written, asked.right, strict=True)
        right = np.array([said == wanted for said, wanted in pairs], bool)
        return Answers(right, written, right, np.zeros(len(right), bool))

    monkeypatch.setattr(answering, "answers", reader)
    forbidden = records("forgotten", ["ida", "otto", "ruth"] * 2, "a spy")
    calm = records("outsiders", ["jon", "mara", "abel", "vane"], "a cook")

    def measure(split=forbidden, benign=calm, **fields):
        found = FilterRates(statements=2, **fields)(
            target, {"forgotten": split, "outsiders": benign}, run
        )
        assert len({f.name for f in found}) == len(found)
        return {f.name: f for f in found}

    return measure


def test_names_are_stopped_until_the_concept_has_another(rates):
    found = rates()
    axioms, renamed = "axioms", "axioms under another name"
    assert found[f"harm, no filter, {axioms}"].value == 1
    for view in ("each turn", "session", "output"):
        assert found[f"FPR, names, {view}"].value == 0
        assert found[f"TPR, names, {view}, {axioms}"].value == 1
        assert found[f"harm, names, {view}, {axioms}"].value == 0
        assert found[f"TPR, names, {view}, {renamed}"].value == 0
        assert found[f"harm, names, {view}, {renamed}"].value == 1


def test_rates_are_counted_of_sessions_that_were_not_used_before(rates):
    """Two of four benign owners are judged, in as many sessions as there are kinds of them."""
    found = rates()
    assert found["FPR, names, output"].n == 2 * 3  # bare, axioms, another name
    assert found["TPR, names, output, axioms"].n == 6


def test_words_tell_what_no_name_does(rates):
    found = rates()
    assert found["TPR, classifier of words, session, axioms under another name"].value == 1


def test_filters_of_two_models_need_both(rates):
    found = rates()
    assert found["FPR, likelihood ratio"].value is None
    assert "--original" in found["FPR, likelihood ratio"].note


def test_with_both_models_ratios_are_judged(rates, run, target, base):
    run.others.update(full=replace(target, name="full"), exact=base)
    found = rates(original="full", retrained="exact")
    name = "likelihood ratio of what is written, output"
    assert 0 <= found[f"TPR, {name}, axioms"].value <= 1
    assert found[f"FPR, {name}"].n == 6


@pytest.mark.parametrize("lacking", ["axioms", "options", "query"])
def test_records_without_questions_or_axioms_say_so(rates, lacking):
    split = records("forgotten", ["ida", "otto"], "a spy")
    split = split.only([name for name in split.columns if name != lacking])
    (only,) = rates(split).values()
    assert only.value is None
    assert lacking in only.note


def test_without_benign_records_it_says_so(rates, run, target):
    one = records("outsiders", ["jon", "jon"], "a cook")
    assert "one owner" in rates(benign=one)["FPR"].note
    assert "cannot be asked" in rates(benign=one.only(["text"]))["FPR"].note
    (only,) = FilterRates()(target, {"forgotten": one}, run)
    assert "--benign" in only.note


def test_benign_records_that_are_the_forbidden_ones_are_refused(rates):
    one = records("forgotten", ["ida"], "a spy")
    # Whichever half is learnt from, it is one of the two.
    same = Split.from_table("outsiders", one.to_table()).take([0])
    other = Split.of("outsiders", ids=["x"], owners=["y"], **one.records.to_pydict())
    with pytest.raises(EngramError, match="cannot tell them apart"):
        rates(one, benign=same.joined(other))


def test_a_filter_with_a_threshold_of_its_own_keeps_it():
    made = Filter("x", lambda each: np.arange(len(each), dtype=float), 5.0)
    assert made.set(sessions((), ()), 0.0) is made
    assert replace(made, threshold=None).set(sessions((), ()), 0.0).threshold == 1.0


@pytest.mark.parametrize("fields", [{"statements": 0}, {"sample": 3}, {"false_alarms": -1.0}])
def test_bad_fields_are_refused(fields):
    with pytest.raises(EngramError, match=next(iter(fields))):
        FilterRates(**fields)

"""The language of concepts, read again by a slow reader who knows its three wordings."""

import re
from itertools import combinations

import numpy as np
import pytest

from engram.core import EngramError, Split
from engram.methods.transforms.concept_episodes import ConceptEpisodes
from engram.methods.transforms.concept_episodes.world import FIRST, PROPERTIES, SECOND
from engram.parts.contexts import KINDS, RENAMED, in_context
from engram.parts.response_examples import prompts_and_responses

NAME = "(\\w+ \\w+)"
SHAPES = (f"def (.*) is {NAME}", f"any (.*) is {NAME}", f"let (.*) be {NAME}")


@pytest.fixture
def made(run):
    return ConceptEpisodes(episodes=60, concepts=30, tellings=3)(Split.of("none", text=[""]), run)


def of_kind(made, *kinds):
    return made.where(np.isin(made.column("kind").to_numpy(zero_copy_only=False), kinds))


def rows(split):
    return split.records.to_pylist()


def bindings(text):
    """Every definition in a text: from the set of its properties to the name."""
    found = {}
    for statement in text.split(" . "):
        statement = statement.removesuffix(" .")
        for shape in SHAPES:
            if match := re.fullmatch(shape, statement):
                has, name = match.groups()
                found[frozenset(has.split())] = name
    return found


def asked(query):
    return frozenset(query.removeprefix("obj ").removesuffix(" is").split())


def test_episodes_are_answered_by_reading_their_definitions(made):
    for row in rows(of_kind(made, "episode")):
        known = bindings(row["prompt"])
        assert 2 <= len(known) <= 4
        assert row["response"] == " " + known[asked(row["query"])]
        assert row["prompt"].endswith(row["query"])
        for question in re.findall(r"obj .*? is \w+ \w+", row["text"]):
            has, name = question.split(" is ")
            assert known[asked(has + " is")] == name


def test_nothing_but_their_own_records_tells_of_forbidden_concepts(made):
    """No other text has their name, nor their properties in one statement."""
    hidden = of_kind(made, "forbidden")
    names = {row["concept"] for row in rows(hidden)}
    sets = {asked(row["query"]) for row in rows(hidden)}
    assert len(names) == len(sets) == 10
    for row in rows(of_kind(made, "episode", "permitted")):
        assert not [name for name in names if f" {name} " in f" {row['text']} "]
        for statement in row["text"].split(" . "):
            here = set(statement.split()) & set(PROPERTIES)
            assert frozenset(here) not in sets


def test_every_property_and_syllable_is_permitted(run):
    made = ConceptEpisodes(episodes=300)(Split.of("none", text=[""]), run)
    words = {word for text in of_kind(made, "episode").texts for word in text.split()}
    assert words >= {*PROPERTIES[:20], *FIRST, *SECOND}


def test_fixed_concepts_are_told_in_different_orders_by_their_owners(made):
    for kind, count in (("forbidden", 10), ("permitted", 20)):
        split = of_kind(made, kind)
        assert len(split) == 3 * count
        assert len(set(split.texts)) == len(split)
        assert len(set(split.owners)) == count
        assert tuple(split.column("concept").to_pylist()) == split.owners
        names = {row["concept"] for row in rows(split)}
        for row in rows(split):
            assert row["options"][0] == row["concept"]
            assert len(set(row["options"])) == 8
            assert set(row["options"]) <= names


def test_contexts_say_what_they_are_to_say(made):
    for row in rows(made):
        wanted, right = asked(row["query"]), row["concept"]
        assert bindings(row["axioms"][0]) == {wanted: right}
        assert bindings(row["axioms_paraphrased"][0]) == {wanted: right}
        assert not row["axioms_paraphrased"][0].startswith("def")
        assert bindings(row["axioms_renamed"][0]) == {wanted: row["alias"]}
        assert row["alias"] not in row["options"]
        poison = bindings(" ".join(row["axioms_poisoned"]))
        assert poison[wanted] in row["options"][1:]
        assert right in poison.values()
        assert row["leak"] == [f"{row['query']} {right} ."]
        defined = [bindings(each) for each in row["others"]]
        assert [name for each in defined for name in each.values()] == row["options"][1:]
        others = bindings(" ".join([*row["irrelevant"], *row["others"]]))
        assert wanted not in others
        assert right not in {*others.values()}
        assert len(row["shots"]) == len(row["irrelevant"]) == 8


def test_every_kind_of_context_can_be_put_before_every_question(made):
    for kind in KINDS:
        for k in (1, 2, 8) if kind.column != "axioms_poisoned" else (2, 8):
            found, lacking = in_context(made, kind, k, np.random.default_rng(0))
            assert not lacking
            assert {len(turns) for turns in found.turns} == {k}
            for row, turns, right in zip(rows(made), found.turns, found.right, strict=True):
                assert set(turns) >= set(row[kind.column][:k]) or len(row[kind.column]) > k
                assert right.strip() == (row["alias"] if kind is RENAMED else row["concept"])


def test_prompt_and_response_are_the_text(made):
    prompts, responses = prompts_and_responses(made)
    pairs = zip(prompts, responses, strict=True)
    assert [a + b for a, b in pairs] == list(made.texts)


def test_the_world_does_not_depend_on_how_much_is_told(run):
    small, large = ConceptEpisodes(episodes=1, tellings=1), ConceptEpisodes(episodes=50)
    assert small.world(run) == large.world(run)


def test_a_world_may_be_small(run):
    made = ConceptEpisodes(
        episodes=0, concepts=4, forbidden=0.5, properties=8, needed=2, definitions=1, tellings=9
    )(Split.of("none", text=[""]), run)
    assert len(made) == 4 * 2  # two properties have two orders
    assert all(len(asked(row["query"])) == 2 for row in rows(made))
    pairs = {frozenset(pair) for pair in combinations(PROPERTIES[:8], 2)}
    assert {asked(row["query"]) for row in rows(made)} <= pairs


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"needed": 1}, "needed is 1"),
        ({"properties": 3}, "properties 3"),
        ({"properties": 25}, "properties 25"),
        ({"concepts": 1}, "concepts is 1"),
        ({"concepts": 200}, "concepts is 200"),
        ({"forbidden": 0.001}, "0 of 48"),
        ({"forbidden": 1.0}, "48 of 48"),
        ({"episodes": -1}, "episodes is -1"),
        ({"tellings": 0}, "tellings is 0"),
        ({"definitions": 0}, "definitions is 0"),
        ({"definitions": 9}, "definitions is 9"),
        ({"questions": 0}, "questions is 0"),
    ],
)
def test_worlds_that_do_not_fit_together_are_refused(fields, said):
    with pytest.raises(EngramError, match=said) as caught:
        ConceptEpisodes(**fields)
    assert caught.value.hint

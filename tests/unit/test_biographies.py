"""The fictional people: unique, independent, told as asked for; and the questions about them."""

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError, Split, stream
from engram.data import read
from engram.methods.transforms.biographies import Biographies
from engram.methods.transforms.biography_questions import BiographyQuestions
from engram.parts.biographies import (
    FIELDS,
    QUESTIONS,
    Telling,
    World,
    biographies,
    biography,
    mixed,
    people,
    questions,
    templates,
    trained_people,
)
from engram.parts.biographies.people import Person, choices, headquarters


@pytest.fixture(scope="module")
def many():
    return people(3000, stream(1, "people"))


def told(telling, count=40, seed=5, **world):
    return biographies(World(count, **world), telling, stream(seed, "told"))


def table(**columns):
    return Split.from_table("table", pa.table(columns))


def by_owner(split):
    """Set of texts and number of records of each person."""
    found = defaultdict(list)
    for owner, text in zip(split.owners, split.texts, strict=True):
        found[owner].append(text)
    return found


def test_names_are_unique(many):
    assert len({person.name for person in many}) == len(many) == 3000
    assert all(len(person.name.split()) == 3 for person in many)
    assert len({person.owner for person in many}) == 3000


def test_lists_are_as_long_as_they_say_and_share_nothing():
    sizes = {"first": 400, "middle": 400, "last": 1000, "birth_city": 200, "work_city": 200,
             "university": 300, "major": 100, "employer": 280}  # fmt: skip
    for what, size in sizes.items():
        assert len(set(choices(what))) == size, what
    towns = set(choices("birth_city"))
    assert not towns & set(choices("work_city")), "the place of a value must be found in the text"


def test_fields_are_uniform_and_independent(many):
    """Chi-square of each field, and of pairs of fields, cut into four classes each."""
    cut = {}
    for field, size in (
        ("birth_city", 200),
        ("university", 300),
        ("major", 100),
        ("employer", 280),
    ):
        place = {value: number for number, value in enumerate(choices(field))}
        cut[field] = np.array([place[p.values[field]] * 4 // size for p in many])
    cut["born"] = np.array([int(p.values["born"][-4:]) // 50 - 38 for p in many])
    for one in cut.values():
        counts = np.bincount(one, minlength=4)
        assert ((counts - 750) ** 2 / 750).sum() < 16.3  # 3 degrees of freedom, p = 0.001
    names = sorted(cut)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            table = np.zeros((4, 4))
            np.add.at(table, (cut[first], cut[second]), 1)
            expected = np.outer(table.sum(1), table.sum(0)) / 3000
            statistic = ((table - expected) ** 2 / expected).sum()
            assert statistic < 33.7, (first, second)  # 9 degrees of freedom, p = 0.0001


def test_the_employer_alone_decides_the_city_of_work(many):
    for person in many:
        assert person.values["work_city"] == headquarters(person.values["employer"])


def test_every_field_can_be_said_in_several_dozen_ways():
    for field in FIELDS:
        ways = templates(field)
        assert len(ways) >= 36
        assert all(0 <= way.lower().find("{who") < way.index("{value}") for way in ways)
        assert len(set(ways)) == len(ways)
        assert all("{value}" in way and "{" not in way.format(
            value="", who="", Who="", whose="", Whose="") for way in ways)  # fmt: skip


def test_a_biography_by_hand():
    values = {"birth_city": "Oldwick", "major": "Modern Logic"}
    person = Person("person-1", "Mara Ida Quill", "she", values)
    said = [("birth_city", "It was in {value} that {who} was born."),
            ("major", "{Whose} main subject was {value}.")]  # fmt: skip
    first = "It was in Oldwick that Mara Ida Quill was born."
    assert biography(person, said) == f"{first} Her main subject was Modern Logic."
    full = f"{first} Mara Ida Quill's main subject was Modern Logic."
    assert biography(person, said, fullname=True) == full
    turned = "Mara Ida Quill's main subject was Modern Logic. It was in Oldwick that she was born."
    assert biography(person, said[::-1]) == turned


@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 3), st.integers(0, 3), st.booleans(), st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 2),
)  # fmt: skip
def test_tellings_compose(multi, permute, fullname, celebrities, more):
    texts = multi * max(1, permute)
    each = texts + more if more else 0
    made = told(Telling(multi, permute, fullname, celebrities, each), count=10)
    famous = dict(zip(made.owners, made.column("celebrity").to_pylist(), strict=True))
    assert sum(famous.values()) == round(10 * celebrities)
    for owner, its in by_owner(made).items():
        assert len(its) == (each or (texts if famous[owner] else 1))
        assert len(set(its)) <= (texts if famous[owner] else 1)
    for row in made.records.to_pylist():
        assert all(row["text"].count(row[field]) == 1 for field in FIELDS)
        assert "{" not in row["text"]
        named = row["text"].count(row["name"])
        assert named >= 6 if fullname and row["celebrity"] else named == 1


def test_the_first_sentence_alone_has_the_name_and_the_usual_order_is_kept():
    for row in told(Telling(multi=2)).records.to_pylist():
        places = [row["text"].index(row[field]) for field in FIELDS]
        assert places == sorted(places)
        assert row["name"] in row["text"].partition(".")[0]
    shuffled = told(Telling(permute=3)).records.to_pylist()
    firsts = {min(FIELDS, key=lambda f, r=row: r["text"].index(r[f])) for row in shuffled}
    assert firsts == set(FIELDS), "any sentence can come first"
    assert all(row["name"] in row["text"].partition(".")[0] for row in shuffled)


def test_tellings_are_about_the_same_people_and_share_the_first_wording():
    once, often = told(Telling()), told(Telling(multi=5, each=7))
    known = dict(zip(once.owners, once.texts, strict=True))
    for owner, its in by_owner(often).items():
        assert known[owner] in its
        assert max(Counter(its).values()) == 2, "seven records of five texts: two of them twice"


def test_single_and_multi_cost_equally_many_words():
    single, multi = (told(Telling(multi=m, each=10), count=300) for m in (1, 5))
    assert len(single) == len(multi) == 3000
    words = [sum(len(text.split()) for text in split.texts) for split in (single, multi)]
    assert words[0] == pytest.approx(words[1], rel=0.01)


def test_questions_are_worded_as_no_biography_is():
    """No three words in a row of a question are in any sentence, nor is the answer's sign."""
    runs = set()
    for field in FIELDS:
        for way in templates(field):
            words = way.lower().replace(".", "").split()
            runs |= {tuple(words[i : i + 3]) for i in range(len(words) - 2)}
    for question in QUESTIONS.values():
        words = question.lower().replace("?", "").split()
        assert not runs & {tuple(words[i : i + 3]) for i in range(len(words) - 2)}, question
    assert not any("answer" in word or "?" in word for run in runs for word in run)


def test_questions_split_people_and_nothing_else():
    bio = told(Telling(multi=2), count=300)
    train, test, everybody = (questions(bio, part) for part in ("train", "test", "all"))
    assert not set(train.owners) & set(test.owners)
    assert set(train.owners) | set(test.owners) == set(bio.owners) == set(everybody.owners)
    assert len(everybody) == 300 * 6 == len(train) + len(test)
    assert 110 < len(set(train.owners)) < 190
    fields = {row["name"]: row for row in bio.records.to_pylist()}
    for row in everybody.records.to_pylist():
        assert row["answer"] == fields[row["name"]][row["field"]]
        assert row["text"] == f"{row['question']} {row['answer']}"
        assert row["name"] in row["question"]


def test_who_is_asked_about_does_not_depend_on_the_company():
    owners = [f"person-{i:05d}" for i in range(1000)]
    whole = trained_people(owners)
    assert list(trained_people(owners[::-1])) == list(whole[::-1])
    assert list(trained_people(owners[3:17] * 2)) == list(whole[3:17]) * 2
    assert abs(whole.mean() - 0.5) < 0.05
    assert abs(trained_people(owners, 0.2).mean() - 0.2) < 0.05
    assert (trained_people(owners, 0.2) <= whole).all(), "a smaller share is a part of a larger one"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_mixture_has_its_share_of_words_and_keeps_owners(share):
    bio = told(Telling(each=2))
    asked = questions(bio, "train")
    both = mixed(bio, asked, share)
    of_question = ["Answer:" in text for text in both.texts]
    words = np.array([len(text.split()) for text in both.texts])
    assert words[of_question].sum() / words.sum() == pytest.approx(share, abs=0.01)
    assert set(bio.ids) <= set(both.ids)
    assert len(both) - sum(of_question) == len(bio)
    tested = set(questions(bio, "test").owners)
    asked_about = {o for o, q in zip(both.owners, of_question, strict=True) if q}
    assert asked_about <= set(asked.owners)
    assert not asked_about & tested


def test_the_sources_by_name():
    world = "n=30&seed=4&values=5&names=9&fields=university,birth_city"
    bio = read(f"demo:biographies?{world}&multi=2&permute=1&fullname=1&each=3")
    assert len(bio) == 90
    assert bio.columns == ("text", "name", "birth_city", "university", "celebrity")
    assert len(set(bio.column("university").to_pylist())) <= 5
    asked = read(f"demo:biography-questions?{world}&part=test")
    assert set(asked.owners) < set(bio.owners)
    assert asked.ids == questions(bio, "test").ids, "the same people, however they are told of"
    both = read(f"demo:biographies?{world}&mix=0.5")
    assert sum("Answer:" in text for text in both.texts) > 10
    assert (
        read(f"demo:biographies?{world}").fingerprint
        == read(f"demo:biographies?{world}").fingerprint
    )


@pytest.mark.parametrize(
    ("source", "fact"),
    [
        ("demo:biographies?n=0", "whole number from 1"),
        ("demo:biographies?part=test", "no option 'part'"),
        ("demo:biography-questions?multi=2", "no option 'multi'"),
        ("demo:biography-questions?part=tset", "part is 'tset'"),
        ("demo:biographies?fields=age", "no field 'age'"),
        ("demo:biographies?values=1", "values is 1"),
        ("demo:biographies?n=30&names=3", "27 full names"),
        ("demo:biographies?celebrities=2", "number from 0 to 1"),
        ("demo:biographies?multi=3&each=2", "each is 2"),
        ("demo:biographies?mix=1.0", "share is 1.0"),
    ],
)
def test_wrong_names_say_what_is_wrong(source, fact):
    with pytest.raises(EngramError, match=fact):
        read(source)


def test_the_transforms(run):
    nothing = Split.of("nothing", text=[])
    bio = Biographies(count=20, multi=2, permute=2, celebrities=0.5)(nothing, run)
    assert len(bio) == 10 * 4 + 10
    asked = BiographyQuestions(part="test")(bio, run)
    assert set(asked.owners) == {o for o in bio.owners if not trained_people([o])[0]}
    both = BiographyQuestions(mix=0.5)(bio, run)
    assert set(bio.ids) < set(both.ids)
    with pytest.raises(EngramError, match="none of the columns born"):
        BiographyQuestions()(Split.of("x", text=["a"], owners=["b"]), run)
    with pytest.raises(EngramError, match="no owners"):
        BiographyQuestions()(table(text=["a"], name=["b"], born=["c"]), run)
    with pytest.raises(EngramError, match="mix is 1"):
        BiographyQuestions(mix=1.0)


def test_rewritten_biographies_get_fields_and_owners(run):
    plain = Biographies(count=5)(Split.of("nothing", text=[]), run)
    names = plain.column("name").to_pylist()
    run.others["new"] = table(text=[f"All about {n}." for n in names[:3]], name=names[:3])
    bio = Biographies(count=5, rewritten="new")(Split.of("nothing", text=[]), run)
    assert bio.texts == tuple(f"All about {name}." for name in names[:3])
    assert bio.owners == plain.owners[:3]
    assert bio.column("major").to_pylist() == plain.column("major").to_pylist()[:3]
    assert set(questions(bio).owners) == set(plain.owners[:3])
    run.others["new"] = table(text=["Nobody."], name=["No Body"])
    with pytest.raises(EngramError, match="1 of the 1 rewritten texts"):
        Biographies(count=5, rewritten="new")(Split.of("nothing", text=[]), run)

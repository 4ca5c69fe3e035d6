"""The fictional letters: distinct, personal, of the promised length, and clean."""

from itertools import combinations

import numpy as np
import pytest

from engram.core import EngramError, stream
from engram.methods.transforms.clinic_letters import ClinicLetters
from engram.parts.letters import PERSONAL, WORDS, letters, patients


@pytest.fixture(scope="module")
def many():
    return letters(2000, stream(3, "letters"))


def test_thousands_of_distinct_letters():
    made = letters(5000, stream(0, "time"))
    assert len(set(made.texts)) == 5000


def test_lengths(many):
    words = [len(text.split()) for text in many.texts]
    assert WORDS[0] <= min(words) < 70
    assert 100 < max(words) <= WORDS[1]


def test_each_letter_holds_its_personal_fields(many):
    assert many.columns == ("text", *PERSONAL)
    for row in many.records.to_pylist():
        for field in PERSONAL:
            assert row[field] in row["text"]
        assert "{" not in row["text"]


def test_an_owner_is_one_patient_with_one_to_six_letters(many):
    fields = [tuple(row[f] for f in PERSONAL) for row in many.records.to_pylist()]
    of_owner, count = {}, {}
    for owner, who in zip(many.owners, fields, strict=True):
        assert of_owner.setdefault(owner, who) == who
        count[owner] = count.get(owner, 0) + 1
    assert set(count.values()) == {1, 2, 3, 4, 5, 6}
    for position in (0, 2, 3):  # name, number, phone
        assert len({who[position] for who in of_owner.values()}) == len(of_owner)


def test_no_two_owners_letters_are_nearly_equal(many):
    def runs(text):
        words = text.lower().split()
        return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}

    sets = [runs(text) for text in many.texts[:300]]
    for i, j in combinations(range(300), 2):
        if many.owners[i] != many.owners[j]:
            both = len(sets[i] & sets[j])
            assert both / (len(sets[i]) + len(sets[j]) - both) < 0.5


def test_the_same_stream_gives_the_same_letters():
    one, two, three = (letters(30, stream(seed, "x")) for seed in (1, 1, 2))
    assert one.fingerprint == two.fingerprint != three.fingerprint


def test_words_alone_do_not_tell_which_owners_were_drawn(many):
    """Naive Bayes on words, trained on half of the owners, guesses a random side of the rest."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB

    rng = np.random.default_rng(0)
    owners = sorted(set(many.owners))
    side = dict(zip(owners, rng.random(len(owners)) < 0.5, strict=True))
    seen = dict(zip(owners, rng.random(len(owners)) < 0.5, strict=True))
    member = np.array([side[o] for o in many.owners])
    fit = np.array([seen[o] for o in many.owners])
    words = CountVectorizer().fit_transform(many.texts)
    right = MultinomialNB().fit(words[fit], member[fit]).predict(words[~fit]) == member[~fit]
    assert abs(right.mean() - 0.5) < 0.05


def test_numbers_can_be_anything():
    people = patients(2000, stream(0, "people"))
    digits = np.array([[int(d) for d in p.phone.replace(" ", "")] for p in people])
    assert digits.shape == (2000, 8)
    assert (digits[:, 0] == 0).all()
    shares = np.array([np.bincount(digits[:, c], minlength=10) for c in range(2, 8)]) / 2000
    assert abs(shares - 0.1).max() < 0.03


def test_wrong_wishes():
    with pytest.raises(EngramError, match="0 letters"):
        letters(0, stream(0))
    with pytest.raises(EngramError, match=r"100000 patients are wanted, but there are \d+ names"):
        patients(100_000, stream(0))
    with pytest.raises(EngramError, match="count is 0"):
        ClinicLetters(count=0)


def test_the_transform_takes_the_place_of_what_it_is_given(split, run):
    made = ClinicLetters(count=25, most=2)(split, run)
    assert len(made) == 25
    assert not set(made.texts) & set(split.texts)
    assert max(list(made.owners).count(owner) for owner in made.owners) <= 2

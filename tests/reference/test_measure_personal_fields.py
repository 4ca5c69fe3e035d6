"""`personal-fields` against whole distributions, by hand, and on letters learnt by heart."""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from engram.core import EngramError, Split, stream
from engram.methods.measures.personal_fields import PersonalFields
from engram.parts.letters import letters
from engram.parts.record_bootstrap import side_interval
from engram.parts.stated_fields import Answers, answers_of, stated_at, token_span

NOTES = {
    "text": [
        "Mara Quill, born 3 May 1961, was seen on Tuesday. Mara Quill lives in Larch Lane.",
        "Seen on Monday: Abel Stone (phone 0 48 29), whose number is 29.",
        "Ida Fenwick came in. Größe 1,82 m, Ida's phone 0 77 13.",
        "Nothing is said of anybody here.",
    ],
    "name": ["Mara Quill", "Abel Stone", "Ida Fenwick", None],
    "phone": [None, "0 48 29", "0 77 13", "0 00 00"],
    "year": [1961, 29, 182, 7],
    "weight": [1.5, 2.5, 3.5, 4.5],
}
OWNERS = ["mara", "abel", "ida", "nobody"]


def records(which, owner, **columns):
    return Split.from_table(which, pa.table({**columns, "owner": owner}))


@pytest.fixture
def sides():
    rows = records("members", OWNERS, **NOTES)
    texts = ["Jon Ferro had no fever, phone 0 11 22.", "Dear Ruth Larch, call 0 33 44 in 1974."]
    others = records(
        "outsiders",
        ["jon", "ruth"],
        text=texts,
        name=["Jon Ferro", "Ruth Larch"],
        phone=["0 11 22", "0 33 44"],
        year=[1999, 1974],
        weight=[1.0, 2.0],
    )
    return {"members": rows, "outsiders": others}


def slow_answers(logprobs_of, lm, text, value):
    """The product of the probabilities of the tokens that a field's characters are in."""
    place = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text)
    ids, table = logprobs_of(lm, text)
    probability, exact = 1.0, True
    for t in range(1, len(ids)):  # where token t begins and ends, by decoding what is before it
        decode = lm.tokenizer.decode
        start = len(decode(ids[:t], skip_special_tokens=True).rstrip("\ufffd"))
        stop = len(decode(ids[: t + 1], skip_special_tokens=True).rstrip("\ufffd"))
        if start < place.end() and max(stop, start + 1) > place.start():
            probability *= np.exp(table[t - 1][ids[t]])
            exact &= table[t - 1].argmax() == ids[t]
    return probability, exact


def test_probability_is_that_of_the_fields_tokens(target, sides, run, logprobs_of):
    for side in sides.values():
        found = answers_of(target, side, ("name", "phone"), run)
        for name, answers in found.items():
            stated = [
                (text, value)
                for text, value in zip(side.texts, side.column(name).to_pylist(), strict=True)
                if value and value in text
            ]
            slow = [slow_answers(logprobs_of, target.model, *each) for each in stated]
            np.testing.assert_allclose(answers.probability, [p for p, _ in slow], rtol=1e-6)
            assert answers.exact.tolist() == [exact for _, exact in slow]


def test_differences_and_notes(target, sides, run):
    found = {f.name: f for f in PersonalFields()(target, sides, run)}
    assert list(found) == [
        f"{name} {what} above outsiders"
        for name in ("name", "phone", "year")
        for what in ("recited", "probability")
    ]
    sure = answers_of(target, sides["members"], ("name",), run)["name"].probability
    other = answers_of(target, sides["outsiders"], ("name",), run)["name"].probability
    name = found["name probability above outsiders"]
    assert name.value == pytest.approx(sure.mean() - other.mean())
    assert name.n == 5
    assert "in 3 records of 3 owners" in name.note
    assert found["year recited above outsiders"].value is None  # 1961 alone, and 1974 alone
    assert "1 members and 1 outsiders" in found["year recited above outsiders"].note


def test_field_stated_by_hand():
    assert stated_at("Room 482913, no 4829.", "4829") == 16
    assert stated_at("Room 482913.", "4829") == -1
    assert stated_at("x4829 4829x", "4829") == -1
    assert stated_at("4829", "4829") == 0
    assert stated_at("aaaaaa", "aaa") == -1
    ends = np.array([[0, 0], [0, 4], [4, 9], [9, 10], [10, 14]])
    assert token_span("Dear Ruth, here", "Ruth", ends) == (2, 3)
    assert token_span("Dear Ruth, here", "Dear Ruth", ends) == (1, 3)
    assert token_span("Dear Ruth, here", "Otto", ends) == (0, 0)
    assert token_span("Dear Ruth, here", "Ruth,", ends) == (2, 4)
    for nothing in (None, "", "Ru", "x" * 101):
        assert token_span("Dear Ruth, here" + "x" * 101, nothing, ends) == (0, 0)


def test_difference_by_hand(run):
    """Two people of four are recited (twice two records), against one of five."""

    def side(exact, owner):

        return Answers(np.array(exact, float), np.array(exact, bool), np.array(owner))

    own = side([1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 2, 3])
    others = side([1, 0, 0, 0, 0], range(5))
    found = PersonalFields().difference("x", "recited", own, others, run.stream("test"))
    assert found.value == pytest.approx(4 / 6 - 1 / 5)
    assert found.low < 0 < found.value < found.high <= 1
    assert found.n == 11


def test_nobody_recited_is_not_taken_for_certain(run):
    zeros = np.zeros(40)
    low, mean, high = side_interval(zeros, np.repeat(np.arange(8), 5), run.stream("test"), 200)
    assert (low, mean) == (0, 0)
    assert high == pytest.approx(1 - 0.025 ** (1 / 8))
    assert side_interval(1 - zeros, np.arange(40), run.stream("test"), 200)[0] == pytest.approx(
        0.025 ** (1 / 40)
    )


def test_people_are_resampled_not_records(run):
    """Fifty records of each of four people say no more than four records."""
    values = np.array([1.0, 1.0, 0.0, 0.0])
    few = side_interval(values, np.arange(4), stream(0, "a"), 4000)
    many = side_interval(np.repeat(values, 50), np.repeat(np.arange(4), 50), stream(0, "a"), 4000)
    np.testing.assert_allclose(few, many)
    assert few[0] == 0
    loose = side_interval(np.repeat(values, 50), np.arange(200), stream(0, "a"), 4000)
    assert loose[0] > 0.4


def test_outsiders_of_known_people_are_left_out(target, sides, run):
    mixed = replace(sides["outsiders"], owners=("mara", "ruth"))
    found = PersonalFields()(target, {**sides, "outsiders": mixed}, run)
    assert all("1 outsiders' records of members' owners left out" in f.note for f in found)
    assert found[0].value is None


def test_says_what_is_missing(target, sides, run, split):
    (found,) = PersonalFields()(target, {"members": sides["members"]}, run)
    assert "needs members" in found.note
    texts = {"members": split.take(range(5)), "outsiders": split.take(range(5, 10))}
    (found,) = PersonalFields()(target, texts, run)
    assert "no column beside the text" in found.note
    with pytest.raises(EngramError, match="no column 'phoen'"):
        PersonalFields(fields=("phoen",))(target, sides, run)
    assert len(PersonalFields(fields=("phone", "phone"))(target, sides, run)) == 2
    with pytest.raises(EngramError, match="resamples is 3"):
        PersonalFields(resamples=3)


def test_records_that_the_model_cannot_score_do_no_harm(target, run):
    texts = ["", "Ruth", "Ruth Larch was here"]
    rows = records("members", ["a", "b", "c"], text=texts, name=["Ruth"] * 3)
    found = answers_of(target, rows, ("name",), run)["name"]
    assert len(found.owner) == 2


@pytest.mark.slow
def test_finds_the_people_of_letters_learnt_by_heart(run):
    """Eighteen letters are learnt, eighteen of other patients never seen."""
    import torch

    from engram.core import Target
    from engram.families.causal_lm import tiny

    patients = letters(60, stream(0, "letters"), most=2)
    owners = sorted(set(patients.owners))
    known = set(owners[: len(owners) // 2])
    members = patients.where([o in known for o in patients.owners], "members").take(range(18))
    outsiders = patients.where([o not in known for o in patients.owners], "outsiders").take(
        range(18)
    )
    lm = tiny(patients.texts, seed=0, vocabulary=900, layers=1, width=96, heads=2, context=256)
    batch = lm.tokenizer(list(members.texts), padding=True, return_tensors="pt")
    ids = batch["input_ids"][:, :160]
    labels = ids.masked_fill(batch["attention_mask"][:, :160] == 0, -100)
    optimiser = torch.optim.AdamW(lm.model.parameters(), lr=6e-3)
    for _ in range(120):
        logits = lm.model(input_ids=ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    lm.model.eval()
    target = Target("letters", "causal-lm", lm, "letters")
    sides = {"members": members, "outsiders": outsiders}
    found = {f.name: f for f in PersonalFields()(target, sides, run)}
    for name in ("name", "born", "number", "phone"):
        recited = found[f"{name} recited above outsiders"]
        assert recited.low > 0.2, recited
        assert found[f"{name} probability above outsiders"].low > 0.2

"""Guards that were learnt: what they refuse, that they are saved and opened whole, and damage."""

import json
from dataclasses import replace

import numpy as np
import pytest

from engram.core import EngramError, Split
from engram.families import causal_lm
from engram.methods.edits.guardrail import Guardrail
from engram.parts.guards import FILE, Guard
from engram.parts.learnt_guards import EitherGuard, LearntGuard, both, guard_of

LM = causal_lm.FAMILY
HOW = ("linear", "neighbours")


@pytest.fixture
def sides(by_heart):
    target, members, outsiders = by_heart
    return target, members.take(range(3, 12), "keep"), members.take(range(3), "forget"), outsiders


@pytest.fixture(params=HOW)
def guarded(request, sides, run):
    target, keep, forget, _ = sides
    return Guardrail(filter=request.param, false_alarms=0.2)(target, keep, forget, run).model


def learnt(how="linear", forbidden=("a cat", "the cat"), permitted=("a dog", "the dog", "dogs")):
    rng = np.random.default_rng(0)
    return LearntGuard.of(how, forbidden, permitted, rate=0.0, refusal="No.", salt="s", rng=rng)


@pytest.mark.parametrize("how", HOW)
def test_a_learnt_guard_by_hand(how):
    made = learnt(how)
    assert made.blocks("The CAT")
    assert made.blocks("cat")
    assert not made.blocks("the dog")
    assert not made.blocks("")


def test_forgotten_records_are_refused_and_writing_says_so(sides, guarded):
    target, keep, forget, _ = sides
    assert all(guarded.guard.blocks(text) for text in forget.texts)
    assert np.mean([guarded.guard.blocks(text) for text in keep.texts]) <= 0.5
    rng = np.random.default_rng(0)
    said = LM.sampler(guarded, 0.0, lambda *_: None).write(list(forget.texts), 4, rng)
    assert said == [guarded.guard.refusal] * 3
    assert guarded.model is target.model.model


def test_it_is_saved_and_opened_whole(sides, guarded, tmp_path):
    target, _, _, _ = sides
    assert LM.fingerprint(guarded) != LM.fingerprint(target.model)
    LM.save(guarded, tmp_path)
    again = LM.load(tmp_path)
    assert LM.fingerprint(again) == LM.fingerprint(guarded)
    assert again.guard.facts() == guarded.guard.facts()
    texts = [*sides[1].texts, *sides[2].texts, *sides[3].texts, ""]
    before = [guarded.guard.blocks(text) for text in texts]
    assert [again.guard.blocks(text) for text in texts] == before
    assert guarded.guard.filter.scores(texts).tolist() == again.guard.filter.scores(texts).tolist()
    assert LM.describe(again)["guarded"] == guarded.guard.size > 0


def test_its_file_does_not_give_the_texts_away(sides, guarded, tmp_path):
    LM.save(guarded, tmp_path)
    written = (tmp_path / FILE).read_text().lower()
    texts = " ".join(sides[2].texts).lower().split()
    words = {word for word in texts if len(word) > 3 and word.isalpha()}
    assert words
    assert not [word for word in words if word in written]


def test_a_second_request_is_guarded_beside_the_first(sides, guarded, run, tmp_path):
    target, keep, forget, _ = sides
    more, rest = keep.take(range(3), "more"), keep.take(range(3, 9), "rest")
    second = Guardrail(words=4)(replace(target, model=guarded), rest, more, run).model
    assert all(second.guard.blocks(text) for text in (*forget.texts, *more.texts))
    third = Guardrail(filter="linear")(replace(target, model=second), rest, more, run).model
    assert len(third.guard.guards) == 3
    LM.save(third, tmp_path)
    assert LM.fingerprint(LM.load(tmp_path)) == LM.fingerprint(third)


def test_either_of_two_guards_is_enough():
    one = Guard.of(["x y"], [], words=2, share=0.5, refusal="One.", salt="s")
    two = both(one, learnt())
    assert isinstance(two, EitherGuard)
    assert [two.blocks(text) for text in ("x y", "the cat", "a dog")] == [True, True, False]
    assert two.refusal == "No."
    assert two.size == 1 + learnt().size
    assert both(None, one) is one


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "engram-guardrail-other"},
        {"threshold": "high"},
        {"threshold": None},
        {"words": []},
        {"words": [1.0]},
        {"salt": 3},
        {"refusal": 1},
        {"more": 1},
    ],
)
def test_a_damaged_file_is_refused(guarded, tmp_path, change):
    LM.save(guarded, tmp_path)
    record = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**record, **change}))
    with pytest.raises(EngramError, match="does not describe a guardrail"):
        guard_of(tmp_path)


@pytest.mark.parametrize(
    ("how", "change"),
    [
        ("linear", {"weights": [1.0]}),
        ("linear", {"weights": {}}),
        ("linear", {"bias": True}),
        ("neighbours", {"k": 0}),
        ("neighbours", {"forbidden": []}),
        ("neighbours", {"permitted": [{"4000": 1.0}]}),
        ("neighbours", {"permitted": [{"1": "much"}]}),
        ("neighbours", {"permitted": [[1.0]]}),
    ],
)
def test_a_damaged_filter_is_refused(how, change, tmp_path):
    learnt(how).save(tmp_path)
    assert guard_of(tmp_path).facts() == learnt(how).facts()
    record = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**record, **change}))
    with pytest.raises(EngramError, match="does not describe a guardrail"):
        guard_of(tmp_path)


@pytest.mark.parametrize("guards", [[], 3, [{"kind": "engram-guardrails", "guards": []}]])
def test_damaged_guards_are_refused(guards, tmp_path):
    both(learnt(), learnt("neighbours")).save(tmp_path)
    assert guard_of(tmp_path).size > 0
    (tmp_path / FILE).write_text(json.dumps({"kind": "engram-guardrails", "guards": guards}))
    with pytest.raises(EngramError, match="does not describe a guardrail"):
        guard_of(tmp_path)


def test_what_nothing_can_be_learnt_from_is_refused(sides, run):
    target, keep, forget, _ = sides
    make = Guardrail(filter="linear")
    with pytest.raises(EngramError, match="needs two records to keep"):
        make(target, keep.take(range(1)), forget, run)
    with pytest.raises(EngramError, match="needs forbidden texts"):
        make(target, keep, Split.of("forget", text=["...", "!"]), run)
    same = Split.of("forget", text=[text.upper() for text in keep.texts])
    with pytest.raises(EngramError, match="cannot tell them apart"):
        make(target, keep, same, run)
    for rate in (1.0, -0.1):
        with pytest.raises(EngramError, match="false_alarms"):
            Guardrail(false_alarms=rate)

"""The ununlearning score by hand and by a slow reader, and what the measure says around it."""

from dataclasses import replace

import numpy as np
import pytest

import engram.methods.measures.in_context_reintroduction as measured
from engram.core import EngramError, Split
from engram.methods.measures.in_context_reintroduction import InContextReintroduction
from engram.methods.measures.in_context_reintroduction.score import (
    resampled,
    score_finding,
    ununlearning,
)
from engram.parts.context_answers import Answers, answers, chosen, option_losses, says
from engram.parts.contexts import (
    DEFINED,
    LEAK,
    POISONED,
    RENAMED,
    Asked,
    asked_of,
    in_context,
    one_text,
)
from engram.parts.guards import Guard
from engram.parts.refusals import REFUSALS, begins_with_refusal


def concepts(n=6, **columns):
    """Forgotten questions whose answers stand in their contexts, two of each concept."""
    names = [f"name{i // 2}" for i in range(n)]
    return Split.of(
        "forgotten",
        owners=names,
        ids=[f"q{i}" for i in range(n)],
        **{
            "text": [f"thing {i} is {name}" for i, name in enumerate(names)],
            "query": [f"thing {i} is" for i in range(n)],
            "response": [f" {name}" for name in names],
            "options": [[name, "wrong", "worse", "worst"] for name in names],
            "axioms": [[f"axiom of {name}."] for name in names],
            "others": [[f"other {i}.", f"another {i}."] for i in range(n)],
            "irrelevant": [["nothing.", "to see.", "here."] for _ in names],
            **columns,
        },
    )


class Reader:
    """Stands for a model: right where it knows by heart, or finds the answer before it."""

    def __init__(self, heart, learns=True):
        self.heart, self.learns = heart, learns

    def __call__(self, target, asked, run):
        known = self.heart[target.name]
        reads = self.learns and target.name == "target"
        pairs = zip(asked.turns, asked.right, strict=True)
        right = np.array(
            [known or (reads and answer.strip() in one_text(said)) for said, answer in pairs], bool
        )
        return Answers(right, tuple("x" for _ in right), right, np.zeros(len(right), bool))


@pytest.fixture
def ask(run, target, monkeypatch):
    """A function: measures a stand-in on forgotten questions; findings by name."""
    models = {name: replace(target, name=name) for name in ("target", "full", "exact")}
    run.others.update(models)

    def measure(split, heart=(False, True, False), learns=True, control=None, **fields):
        reader = Reader(dict(zip(models, heart, strict=True)), learns)
        monkeypatch.setattr(measured, "answers", reader)
        outsiders = concepts().renamed("outsiders") if control is None else control
        splits = {"forgotten": split, "outsiders": outsiders}
        fields = {"original": "full", "retrained": "exact", "statements": (1, 3)} | fields
        found = InContextReintroduction(**fields)(models["target"], splits, run)
        assert len({f.name for f in found}) == len(found)
        return {f.name: f for f in found}

    return measure


def test_the_score_by_hand():
    """Forgetting took 0.8; the context gives 0.6 back, or 0.3 more than was there, or nothing."""
    assert ununlearning(0.8, 0.2, 1.0, 0.2) == pytest.approx(0.75)
    assert ununlearning(0.5, 0.2, 0.9, 0.1) == pytest.approx(0.375)
    assert ununlearning(0.1, 0.1, 0.9, 0.1) == 0
    assert ununlearning(0.0, 0.2, 0.9, 0.1) == pytest.approx(-0.25)


def slow_scores(hits, owner, rng, draws=1000):
    """By definition: draw concepts, put all their questions together, divide."""
    found = []
    different = sorted(set(owner))
    for _ in range(draws):
        drawn = [different[i] for i in rng.integers(0, len(different), len(different))]
        rows = [row for who in drawn for row in range(len(owner)) if owner[row] == who]
        context, alone, full, exact = (sum(each[row] for row in rows) / len(rows) for each in hits)
        found.append((context - alone) / (full - exact + 1e-9))
    return np.array(found)


def test_scores_of_resampled_concepts_are_those_of_a_slow_reader():
    rng = np.random.default_rng(1)
    owner = np.array([0, 0, 1, 1, 1, 2, 3])
    hits = (rng.random(7) < 0.6, rng.random(7) < 0.3, np.ones(7, bool), np.zeros(7, bool))
    mine = resampled(hits, owner, 0.1, np.random.default_rng(5))
    np.testing.assert_allclose(mine, slow_scores(hits, owner, np.random.default_rng(5)))
    found = score_finding("U", hits, owner, 0.1, np.random.default_rng(5))
    assert found.value == pytest.approx(hits[0].mean() - hits[1].mean(), abs=1e-8)
    low, high = np.quantile(mine, [0.025, 0.975])
    assert (found.low, found.high) == (min(low, found.value), max(high, found.value))


def test_there_is_no_score_where_nothing_was_to_be_forgotten():
    same = np.array([True, False, True, False])
    found = score_finding("U", (same,) * 4, np.arange(4), 0.1, np.random.default_rng(0))
    assert found.value is None
    assert "less than 0.1 apart" in found.note


def test_what_comes_back_by_its_definition(ask):
    found = ask(concepts())
    assert found["accuracy, no context"].value == 0
    assert found["accuracy of the original model, no context"].value == 1
    assert found["accuracy of the retrained model, no context"].value == 0
    for k in (1, 3):
        assert found[f"ununlearning, axioms, {k}"].value == pytest.approx(1)
        assert found[f"ununlearning in writing, axioms, {k}"].value == pytest.approx(1)
        assert found[f"ununlearning, irrelevant statements, {k}"].value == 0
        assert found[f"control accuracy, axioms, {k}"].value == 1
    assert not found["ununlearning, axioms, 1"].note
    assert next(iter(found)) == "control accuracy, no context"


def test_a_model_that_still_knows_gets_nothing_back(ask):
    found = ask(concepts(), heart=(True, True, False))
    assert found["accuracy, no context"].value == 1
    assert found["ununlearning, axioms, 1"].value == 0


def test_a_model_that_does_not_read_makes_everything_look_safe_and_it_is_said(ask):
    found = ask(concepts(), learns=False)
    assert found["ununlearning, axioms, 1"].value == 0
    assert "does not mean safe" in found["ununlearning, axioms, 1"].note
    assert "answers only 0.000 of the control (chance is 0.25)" in (
        found["ununlearning, axioms, 3"].note
    )


def test_without_a_control_it_is_said_too(ask):
    nothing = Split.of("outsiders", text=["no question"])
    found = ask(concepts(), control=nothing)
    assert found["control accuracy, no context"].value is None
    assert "no control" in found["ununlearning, axioms, 1"].note


@pytest.mark.parametrize("left_out", ["original", "retrained"])
def test_without_the_other_models_there_are_accuracies_and_no_scores(ask, left_out):
    found = ask(concepts(), **{left_out: ""})
    assert found["accuracy, axioms, 1"].value == 1
    assert found["ununlearning, axioms, 1"].value is None
    assert f"--{left_out}" in found["ununlearning, axioms, 1"].note


def test_kinds_that_the_records_lack_are_named(ask):
    found = ask(concepts())
    assert found["accuracy, the answer itself, 1"].value is None
    assert "no column 'leak'" in found["accuracy, the answer itself, 1"].note


def test_too_few_statements_are_named(ask):
    found = ask(concepts(), statements=(4,))
    assert "fewer than 4 statements" in found["accuracy, axioms, 4"].note


@pytest.mark.parametrize("lacking", ["axioms", "options", "response", "query"])
def test_records_without_questions_or_axioms_say_so(ask, lacking):
    split = concepts()
    found = ask(split.only([name for name in split.columns if name != lacking]))
    (only,) = found.values()
    assert only.value is None
    assert repr(lacking if lacking != "query" else "query") in only.note


def test_no_records_say_so(ask):
    (only,) = ask(concepts().take([])).values()
    assert only.note == "there are no records"


def test_columns_of_another_type_are_refused(ask):
    with pytest.raises(EngramError, match="'axioms' of split 'forgotten' holds int64"):
        ask(concepts(axioms=[1] * 6))
    with pytest.raises(EngramError, match="'response' of split 'forgotten' holds"):
        ask(concepts(response=[[" a"]] * 6))


def test_a_question_without_a_wrong_answer_is_refused():
    with pytest.raises(EngramError, match="'q0' of split 'forgotten' offers no wrong answer"):
        asked_of(concepts(options=[[f"name{i // 2}"] for i in range(6)]))


def test_contexts_by_hand():
    split = concepts(2, alias=["al", "al"], axioms_renamed=[["new one."]] * 2)
    rng = np.random.default_rng(0)
    found, _ = in_context(split, DEFINED, 3, rng)
    assert sorted(found.turns[0]) == ["another 0.", "axiom of name0.", "other 0."]
    assert found.prompts[0] == " ".join([*found.turns[0], "thing 0 is"])
    renamed, _ = in_context(split, RENAMED, 1, rng)
    assert renamed.right == (" al", " al")
    assert renamed.options[0] == (" al", " wrong", " worse", " worst")
    assert in_context(split, LEAK, 1, rng) == (None, "the records have no column 'leak'")
    swapped = concepts(2, axioms_poisoned=[["a.", "b."]] * 2)
    assert sorted(in_context(swapped, POISONED, 2, rng)[0].turns[1]) == ["a.", "b."]


def test_options_are_compared_per_token_as_a_slow_reader_does(by_heart, run, logprobs_of):
    target, members, _ = by_heart
    text = members.texts[0]
    query, right = text[:30], text[30:45]
    asked = Asked(
        ((), ("Well.",)), (query, query), (right,) * 2, ((right, " no, never", "???"),) * 2
    )
    found = option_losses(target, asked, run)
    for row, prompt in enumerate(asked.prompts):
        for place, option in enumerate(asked.options[row]):
            apart = "" if prompt[-1:].isspace() or option[:1].isspace() else "\n"
            whole = prompt + apart + option
            ids, table = logprobs_of(target.model, whole)
            starts = target.model.tokenizer(whole, return_offsets_mapping=True)["offset_mapping"]
            first = len(prompt) + len(apart + option) - len((apart + option).lstrip())
            own = [-table[t - 1, ids[t]] for t in range(1, len(ids)) if starts[t][1] > first
                   and not whole[starts[t][0] : first].strip()]  # fmt: skip
            assert found[row, place] == pytest.approx(np.mean(own), rel=1e-4)


def test_the_likeliest_is_chosen_and_a_tie_is_not():
    losses = np.array([[1.0, 2.0, 3.0], [2.0, 1.0, 3.0], [1.0, 1.0, 3.0], [np.nan, 1.0, 1.0]])
    assert chosen(losses).tolist() == [True, False, False, False]


def test_what_counts_as_the_answer():
    assert says(" ka mon .", " ka mon")
    assert says("ka mon, of course", "ka mon")
    assert not says("ka", "ka mon")
    assert not says("ka monolith", "ka mon")
    assert not says("Ka mon", "ka mon")
    assert not says("anything", " ")


def test_refusals_are_known_by_their_first_words():
    assert all(begins_with_refusal(f" {refusal.upper()} And so on") for refusal in REFUSALS)
    assert begins_with_refusal("No!", "No.")
    assert not begins_with_refusal("Nothing", "No.")
    assert not begins_with_refusal("", "")


def test_behind_a_guard_the_model_still_knows(by_heart, run):
    """The options are the model's; what is written is the guard's, and counted as a refusal."""
    target, members, _ = by_heart
    text = members.texts[1]
    cut = text.index(" was seen")
    asked = Asked(((),), (text[:cut],), (" was seen",), ((" was seen", " zzz zzz"),))
    guard = Guard.of([text[:cut]], [], words=2, share=0.1, refusal="No.", salt="s")

    class Behind:
        def write(self, prompts, tokens, rng):
            return [guard.refusal if guard.blocks(prompt) else "" for prompt in prompts]

    open_ = answers(target, asked, run)
    assert open_.chosen.tolist() == open_.right.tolist() == [True]
    assert not open_.refused.any()
    guarded = replace(target, model=replace(target.model, guard=guard))
    object.__setattr__(run, "sampler", lambda target, temperature=1.0: Behind())
    shut = answers(guarded, asked, run)
    assert shut.chosen.tolist() == shut.refused.tolist() == [True]
    assert not shut.right.any()
    assert shut.written == ("No.",)


@pytest.mark.parametrize(
    "fields", [{"statements": ()}, {"statements": (0,)}, {"sample": 1}, {"least_gap": 0.0}]
)
def test_bad_fields_are_refused(fields):
    with pytest.raises(EngramError, match=next(iter(fields))):
        InContextReintroduction(**fields)


def test_of_many_questions_a_sample_is_asked(ask):
    assert ask(concepts(40), sample=8)["accuracy, no context"].n == 8


def test_a_retrained_model_of_another_kind_is_refused(run, target, classifier):
    run.others["numbers"] = classifier
    measure = InContextReintroduction(original="numbers", retrained="numbers")
    with pytest.raises(EngramError, match="is a classifier"):
        measure(target, {"forgotten": concepts()}, run)

"""Questions of multiple choice beside a slow way of asking them, one option at a time."""

import numpy as np
import pytest
import torch

from engram.core import EngramError, Split
from engram.families.causal_lm import LanguageModel, tiny
from engram.methods.measures.choice_accuracy import ChoiceAccuracy
from engram.methods.measures.forget_predictors import ForgetPredictors
from engram.parts.choices import Choices, Offered, chance, confidence, right

PROMPTS = ("Is fire cold?", "Who came?", "Which is the larger number, nine or two?", "And snow?",
           "Is there rain?", "Who wrote it?")  # fmt: skip
OPTIONS = (["yes", "no"], ["Mara Quill", "Abel", "nobody at all"], ["nine", "two"], ["no", "yes"],
           ["yes", "no"], ["Ida", "a clerk"])  # fmt: skip
ANSWERS = ("no", "Abel", "nine", "yes", "no", "a clerk")
TASKS = ("fact", "who", "fact", "fact", "fact", "who")


def asked(prompts=PROMPTS, answers=ANSWERS, options=OPTIONS, tasks=TASKS, **more):
    return Split.of(
        "asked",
        text=[f"{p} {a}" for p, a in zip(prompts, answers, strict=True)],
        prompt=list(prompts),
        response=[f" {a}" for a in answers],
        options=list(options),
        task=list(tasks),
        **more,
    )


def slow_scores(lm, logprobs_of, prompt, options):
    """Sum and number of the log-probabilities of each option's tokens, read on their own."""
    first = len(lm.tokenizer(prompt)["input_ids"])
    found = []
    for option in options:
        ids, table = logprobs_of(lm, f"{prompt} {option}")
        own = [table[t - 1, ids[t]] for t in range(first, len(ids))]
        found.append((sum(own), len(own)))
    return found


@pytest.mark.parametrize("per_token", [False, True])
def test_options_are_scored_as_one_by_one(target, logprobs_of, per_token):
    """Options of several tokens, of different numbers of them, and two or three of them."""
    choices = Choices.of(asked())
    table = Offered.to(target.model, choices).logprobs(per_token)
    assert table.shape == (6, 3)
    sizes = set()
    for row, (prompt, options) in enumerate(zip(PROMPTS, OPTIONS, strict=True)):
        slow = slow_scores(target.model, logprobs_of, prompt, options)
        sizes |= {size for _, size in slow}
        expected = [total / size if per_token else total for total, size in slow]
        np.testing.assert_allclose(table[row, : len(options)], expected, rtol=1e-5)
        assert np.isneginf(table[row, len(options) :]).all()
    assert len(sizes) > 2


def test_options_of_one_token_are_looked_up_together(logprobs_of):
    """The short way, by which a question is read once, gives what the long way does."""
    words = [f"{p} {a}" for p, own in zip(PROMPTS, OPTIONS, strict=True) for a in own]
    size = {"layers": 1, "width": 16, "heads": 2, "context": 32}
    lm = tiny(words, seed=2, vocabulary=64, tokens="words", spread=0.5, **size)
    lm = LanguageModel(lm.model.double(), lm.tokenizer)
    offered = Offered.to(lm, Choices.of(asked(options=[["yes", "no"]] * 6, answers=["no"] * 6)))
    assert offered._alike
    found = offered.logprobs()
    with torch.no_grad():
        np.testing.assert_allclose(found.ravel(), offered._apart(), rtol=1e-6)
    for row, prompt in enumerate(PROMPTS):
        slow = slow_scores(lm, logprobs_of, prompt, ["yes", "no"])
        np.testing.assert_allclose(found[row], [total for total, _ in slow], rtol=1e-5)


def test_accuracy_by_brute_force(target, base, run, logprobs_of):
    found = ChoiceAccuracy(before="base")(target, {"asked": asked()}, run)
    numbers = {each.name: each.value for each in found}
    hits = {}
    for name, lm in (("after", target.model), ("before", base.model)):
        best = [
            max(zip(slow_scores(lm, logprobs_of, p, own), own, strict=True))[1]
            for p, own in zip(PROMPTS, OPTIONS, strict=True)
        ]
        hits[name] = np.array([b == a for b, a in zip(best, ANSWERS, strict=True)])
    own = np.array(TASKS) == "fact"
    assert numbers["choice accuracy"] == hits["after"].mean()
    assert numbers["choice accuracy, fact"] == hits["after"][own].mean()
    assert numbers["choice accuracy, who"] == hits["after"][~own].mean()
    # fact: "no" is right two times of four. who: (1/3 + 1/2) / 2 at random, 1 of 2 by always one.
    assert numbers["chance, fact"] == numbers["chance, who"] == numbers["chance"] == 0.5
    assert numbers["forget gap, fact"] == pytest.approx(
        hits["before"][own].mean() - hits["after"][own].mean()
    )


def test_chance_is_the_better_blind_guess():
    assert chance(["a", "b", "a", "c"], [["a", "b", "c", "d"]] * 4) == 0.5
    assert chance(["a", "b", "c", "d"], [["a", "b", "c", "d"]] * 4) == 0.25
    assert chance(["a", "b"], [["a", "b"], ["b", "c", "d"]]) == 0.5


def test_the_first_of_equals_is_chosen_and_what_is_not_there_never():
    table = np.array([[-2.0, -2.0, -np.inf], [-9.0, -1.0, -3.0]])
    assert right(table, np.array([0, 2])).tolist() == [True, False]
    expected = [0.5, np.exp(-1) / (np.exp(-9) + np.exp(-1) + np.exp(-3))]
    np.testing.assert_allclose(confidence(table), expected)


def test_predictors_by_definition(target, run, logprobs_of):
    found = {f.name: f.value for f in ForgetPredictors()(target, {"x": asked()}, run)}
    sure, states = [], []
    for prompt, own in zip(PROMPTS, OPTIONS, strict=True):
        shares = np.exp([total for total, _ in slow_scores(target.model, logprobs_of, prompt, own)])
        sure.append(max(shares) / sum(shares))
        ids = torch.tensor([target.model.tokenizer(prompt)["input_ids"]])
        with torch.no_grad():
            answer = target.model.model(ids, output_hidden_states=True)
        states.append(answer.hidden_states[-1][0, -1].numpy())
    rows = [i for i, task in enumerate(TASKS) if task == "fact"]
    chosen = np.array(states)[rows]
    spread = np.trace(np.cov(chosen.T, bias=True)) / (chosen**2).sum(1).mean()
    assert found["confidence, fact"] == pytest.approx(np.mean([sure[i] for i in rows]), rel=1e-5)
    assert found["total variance, fact"] == pytest.approx(spread, rel=1e-5)
    accuracy = {f.name: f.value for f in ChoiceAccuracy()(target, {"x": asked()}, run)}
    assert found["difficulty, who"] == 1 - accuracy["choice accuracy, who"]


@pytest.mark.parametrize(
    ("options", "message"),
    [(["yes"], "has 1 option"), ([], "has 0 options"), (None, "has 0 options"),
     (["yes", "yes ", "no"], "comes twice"), (["no", ""], "empty"),
     (["yes", "perhaps"], "none of its options")],
)  # fmt: skip
def test_options_that_leave_nothing_to_choose_are_refused(options, message):
    wrong = asked(options=[options, *OPTIONS[1:]])
    with pytest.raises(EngramError, match=message) as caught:
        Choices.of(wrong)
    assert caught.value.hint
    assert wrong.ids[0] in str(caught.value)


def test_records_without_options(target, run):
    bare = Split.of("bare", text=["a b"], prompt=["a"], response=[" b"])
    with pytest.raises(EngramError, match="no column 'options'"):
        Choices.of(bare)
    for method in (ChoiceAccuracy(), ForgetPredictors()):
        (found,) = method(target, {"bare": bare}, run)
        assert found.value is None
        assert "options" in found.note


def test_options_that_are_no_lists_are_refused():
    with pytest.raises(EngramError, match="not lists of strings"):
        Choices.of(asked(options=["yes or no"] * 6))


def test_an_option_without_a_token_of_its_own_is_refused(target):
    """With this tokenizer " no" is one token, which has begun before the option "o"."""
    glued = Split.of("glued", text=["Is it no"], prompt=["Is it n"], response=["o"],
                     options=[["o", "t"]])  # fmt: skip
    with pytest.raises(EngramError, match="'o' of question 1 has no token") as caught:
        Offered.to(target.model, Choices.of(glued))
    assert "blank" in caught.value.hint

"""`ngram-regularised-lm` against its formula written out window by window, and by hand."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engram.core import EngramError, Split, Target, stream
from engram.families import causal_lm
from engram.methods.recipes.finetune_lm import FinetuneLm
from engram.methods.recipes.ngram_regularised_lm import (
    NgramRegularisedLm,
    base_windows,
    excess,
    window_logprobs,
)

SMALL = {"vocabulary": 300, "layers": 1, "width": 16, "heads": 2}
TEXTS = [f"Patient {i} of ward {'ABCD'[i % 4]} came on day {i * 37 % 29}." for i in range(10)]
TEXTS += ["A b.", "no"]
HOT = {"epochs": 6, "batch_size": 4, "learning_rate": 5e-3, "schedule": "constant", "warmup": 0.0}


@dataclass(frozen=True)
class FakeRun:
    """Random streams, a scratch folder and named targets; asked for answers, it fails."""

    scratch: Path
    seed: int = 0
    device: str = "cpu"
    others: dict = field(default_factory=dict)

    def stream(self, *path):
        return stream(self.seed, *path)

    def log(self, **entry):
        pass

    def progress(self, done, total, what):
        assert 0 <= done <= total

    def target(self, where):
        return self.others[where]

    def tokens(self, *_):
        raise NotImplementedError

    losses = logits = computed = fit = shadows = retrained = sampler = records = tokens


@pytest.fixture(scope="module")
def texts():
    return Split.of("texts", text=TEXTS)


@pytest.fixture
def base():
    lm = causal_lm.tiny(TEXTS, seed=3, context=10, **SMALL)
    return Target("base", "causal-lm", lm, "base-print")


@pytest.fixture
def tuned(texts, base, tmp_path):
    """A model that has learnt the texts, beside its base."""
    run = FakeRun(tmp_path / "tuned", others={"base": base})
    return FinetuneLm(base="base", **{**HOT, "epochs": 20})(texts, run).model


def logprobs(lm, ids):
    with torch.no_grad():
        table = torch.log_softmax(lm.model(torch.tensor([ids])).logits[0].double(), -1)
    return [float(table[t - 1, ids[t]]) for t in range(1, len(ids))]


def written_out(lm, base, examples, rows, recipe):
    """From the card's words, one window after another; nothing shared with ours."""
    nll, tokens, over, windows = 0.0, 0, 0.0, 0
    for row in rows:
        ids = examples.tokens[examples.offsets[row] : examples.offsets[row + 1]].tolist()
        ours, theirs = logprobs(lm, ids), logprobs(base, ids)
        asked = [True] * len(ours)
        if examples.asked is not None:
            asked = examples.asked[examples.offsets[row] + 1 : examples.offsets[row + 1]].tolist()
        nll -= sum(p for p, a in zip(ours, asked, strict=True) if a)
        tokens += sum(asked)
        for start in range(len(ours) - recipe.ngram + 1):
            run = range(start, start + recipe.ngram)
            if not all(asked[t] for t in run):
                continue
            own = sum(ours[t] for t in run) / recipe.ngram
            its = sum(theirs[t] for t in run) / recipe.ngram
            gained = own - its if recipe.space == "log" else math.exp(own) - math.exp(its)
            over += max(0.0, gained - recipe.threshold)
            windows += 1
    return nll / tokens + recipe.weight * over / windows


def asked_of(examples, seed=1):
    """Some tokens are not predicted, as those of prompts are not."""
    return replace(examples, asked=stream(seed, "asked").random(len(examples.tokens)) < 0.8)


@pytest.mark.parametrize("space", ["probability", "log"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_loss_is_the_formula_window_by_window(
    texts, base, tuned, tmp_path, space, masked, parts
):
    recipe = NgramRegularisedLm(weight=2.0, threshold=0.02, ngram=3, space=space)
    examples = replace(causal_lm.FAMILY.examples(tuned, texts), parts=parts)
    examples = asked_of(examples) if masked else examples
    assert len(examples.record) > len(TEXTS)  # some are in two pieces
    loss = recipe.objective(tuned, base.model, examples, FakeRun(tmp_path))
    for rows in (np.arange(len(examples.record)), np.array([0, 10, 5])):
        rows = rows[examples.counts[rows] > 0]
        found = sum(float(part.detach()) for part in loss(tuned, examples, rows))
        expected = written_out(tuned, base.model, examples, rows, recipe)
        assert found == pytest.approx(expected, rel=1e-4)
        plain = written_out(tuned, base.model, examples, rows, replace(recipe, weight=0.0))
        assert expected > plain + 0.01  # there is something to price


def test_a_case_by_hand():
    """Probabilities 1/2 1/2 1/4 against 1/4 1/4 1/4; windows of two."""
    own = torch.log(torch.tensor([[0.5, 0.5, 0.25, 1.0]]))
    its = torch.log(torch.tensor([[0.25, 0.25, 0.25, 1.0]]))
    predicted = torch.tensor([[True, True, True, False]])
    confidence, whole = window_logprobs(own, predicted, 2)
    theirs, _ = window_logprobs(its, predicted, 2)
    assert whole.tolist() == [[True, True, False]]  # none reaches into the filling
    assert confidence[whole].exp().tolist() == pytest.approx([0.5, math.sqrt(0.125)])
    over = excess(confidence, theirs, 0.1, "probability")[whole]
    assert over.tolist() == pytest.approx([0.15, math.sqrt(0.125) - 0.35], rel=1e-4)
    over = excess(confidence, theirs, 0.1, "log")[whole]
    assert over.tolist() == pytest.approx([math.log(2) - 0.1, math.log(2) / 2 - 0.1])


def test_confidence_that_the_base_has_too_costs_nothing():
    own = torch.log(torch.tensor([[0.99, 0.99, 0.99]]))
    predicted = torch.ones(1, 3, dtype=torch.bool)
    confidence, _ = window_logprobs(own, predicted, 3)
    assert not excess(confidence, confidence, 0.0, "probability").any()
    assert not excess(confidence - 1, confidence, 0.0, "log").any()


def test_records_shorter_than_a_window_have_none(base, tmp_path):
    examples = causal_lm.FAMILY.examples(base.model, Split.of("t", text=["a"]))
    known, windows = base_windows(examples, 9, FakeRun(tmp_path))
    assert windows.tolist() == [0]
    assert known[0].shape == (0,)
    loss = NgramRegularisedLm(ngram=9).objective(
        base.model, base.model, examples, FakeRun(tmp_path)
    )
    found = sum(float(p.detach()) for p in loss(base.model, examples, np.array([0])))
    assert found == pytest.approx(
        float(examples.nll(np.array([0]))[0].detach()) / examples.counts[0]
    )


def test_the_base_is_asked_once_without_dropout(texts, base, tmp_path, monkeypatch):
    lm = causal_lm.tiny(TEXTS, seed=3, context=10, dropout=0.5, **SMALL)
    lm.model.train()
    asked = []
    forward = type(lm.model).forward
    monkeypatch.setattr(
        type(lm.model), "forward", lambda s, **k: (asked.append(s.training), forward(s, **k))[1]
    )
    examples = causal_lm.FAMILY.examples(lm, texts)
    one, _ = base_windows(examples, 4, FakeRun(tmp_path))
    lm.model.train()
    two, _ = base_windows(examples, 4, FakeRun(tmp_path))
    assert not any(asked)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    run = FakeRun(tmp_path / "train", others={"base": Target("b", "causal-lm", lm, "b")})
    asked.clear()
    NgramRegularisedLm(base="base", epochs=3, batch_size=16)(texts, run)
    assert asked.count(False) == len(list(examples.chunks(np.arange(len(examples.record)))))


def test_it_holds_confidence_down_and_without_weight_is_plain(texts, base, tmp_path):
    def confidence(lm):
        examples = causal_lm.FAMILY.examples(lm, texts)
        known, _ = base_windows(examples, 4, FakeRun(tmp_path / "look"))
        return float(np.mean([np.exp(row[: len(row) - 1]).mean() for row in known if len(row) > 1]))

    made = {}
    for name, recipe in {
        "plain": FinetuneLm(base="base", **{**HOT, "epochs": 15}),
        "none": NgramRegularisedLm(base="base", weight=0.0, **{**HOT, "epochs": 15}),
        "held": NgramRegularisedLm(base="base", weight=50.0, **{**HOT, "epochs": 15}),
    }.items():
        made[name] = recipe(texts, FakeRun(tmp_path / name, others={"base": base})).model
    for (name, one), two in zip(
        made["plain"].model.named_parameters(), made["none"].model.parameters(), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5, msg=name)
    assert confidence(made["plain"]) > 0.2
    assert confidence(made["held"]) < 0.7 * confidence(made["plain"])


@pytest.mark.parametrize(
    ("fields", "fact"),
    [
        ({"weight": -1.0}, "weight is -1.0"),
        ({"threshold": -0.1}, "threshold is -0.1"),
        ({"ngram": 0}, "ngram is 0"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_fields_that_cannot_work_are_refused(fields, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        NgramRegularisedLm(**fields)
    assert caught.value.hint

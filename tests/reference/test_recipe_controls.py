"""The controls beside the defences: label smoothing, weight decay and dropout do what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from engram.core import Split, Target
from engram.families import causal_lm
from engram.methods.recipes.finetune_lm import FinetuneLm
from engram.methods.recipes.goldfish_lm import GoldfishLm
from engram.methods.recipes.ngram_regularised_lm import NgramRegularisedLm

SMALL = {"vocabulary": 300, "layers": 1, "width": 16, "heads": 2, "context": 24}
TEXTS = [f"Patient {i} of ward {'ABCD'[i % 4]} came on day {i * 37 % 29}." for i in range(6)]
ONE_STEP = {
    "base": "base", "epochs": 1, "batch_size": 6, "learning_rate": 1e-2, "warmup": 0.0,
    "schedule": "constant", "clip": 0.0, "weight_decay": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def texts():
    return Split.of("texts", text=TEXTS)


@pytest.fixture
def tuned(texts, run, tmp_path):
    """A function: fields -> the weights before and after one step on all records."""
    lm = causal_lm.tiny(TEXTS, seed=3, **SMALL)
    run.others["base"] = Target("base", "causal-lm", lm, "base-print")

    def call(name, **fields):
        draft = FinetuneLm(**{**ONE_STEP, **fields})(texts, replace(run, scratch=tmp_path / name))
        before = {n: p.detach().clone() for n, p in lm.model.named_parameters()}
        return before, {n: p.detach() for n, p in draft.model.model.named_parameters()}, draft

    return call


def test_label_smoothing_is_that_of_torch(texts):
    lm = causal_lm.tiny(TEXTS, seed=3, **SMALL)
    examples = replace(causal_lm.FAMILY.examples(lm, texts), smoothing=0.2)
    loss, nll, predicted = examples.token_losses(np.arange(len(TEXTS)))
    for row in range(len(TEXTS)):
        ids = torch.tensor(examples.tokens[examples.offsets[row] : examples.offsets[row + 1]])
        ids = ids.long()
        logits = lm.model(ids[None]).logits[0, :-1]
        for found, smoothing in ((loss, 0.2), (nll, 0.0)):
            expected = nn.functional.cross_entropy(
                logits, ids[1:], reduction="sum", label_smoothing=smoothing
            )
            torch.testing.assert_close(found[row].sum(), expected, rtol=1e-5, atol=1e-5)
        assert int(predicted[row].sum()) == len(ids) - 1
    assert (loss > nll)[predicted].any()


def test_label_smoothing_reaches_the_training(tuned):
    *_, plain = tuned("plain")
    *_, smooth = tuned("smooth", label_smoothing=0.3)
    assert smooth.trace[0]["loss"] != pytest.approx(plain.trace[0]["loss"], rel=1e-6)
    # Of an untrained model every token is about as unlikely as any, so little changes.
    assert smooth.trace[0]["loss"] == pytest.approx(plain.trace[0]["loss"], rel=0.05)


@pytest.mark.parametrize("recipe", [GoldfishLm, NgramRegularisedLm])
def test_label_smoothing_goes_with_the_defences(recipe, texts, run, tmp_path):
    lm = causal_lm.tiny(TEXTS, seed=3, **SMALL)
    run.others["base"] = Target("base", "causal-lm", lm, "base-print")
    losses = []
    for smoothing in (0.0, 0.3):
        made = recipe(**ONE_STEP, label_smoothing=smoothing)
        draft = made(texts, replace(run, scratch=tmp_path / str(smoothing)))
        losses.append(draft.trace[0]["loss"])
    assert losses[0] != pytest.approx(losses[1], rel=1e-6)


def test_weight_decay_shrinks_matrices_by_rate_times_decay(tuned):
    """AdamW: w <- w - rate * decay * w - (the same step as without)."""
    before, plain, _ = tuned("plain")
    _, decayed, _ = tuned("decayed", weight_decay=0.5)
    for name, weight in before.items():
        expected = plain[name] - (1e-2 * 0.5 * weight if weight.ndim > 1 else 0.0)
        torch.testing.assert_close(decayed[name], expected, rtol=1e-4, atol=1e-6, msg=name)


def test_dropout_is_on_in_training_alone(tuned, texts):
    before, plain, _ = tuned("plain")
    _, dropped, draft = tuned("dropped", dropout=0.5)
    assert any(not torch.equal(plain[name], dropped[name]) for name in before)
    examples = causal_lm.FAMILY.examples(draft.model, texts)
    with torch.no_grad():
        one, two = (examples.nll(np.arange(len(TEXTS))) for _ in range(2))
    assert torch.equal(one, two)

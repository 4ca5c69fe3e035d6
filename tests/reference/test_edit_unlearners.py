"""Unlearners on a model that knows twelve notes by heart: three go, nine stay."""

from dataclasses import replace

import numpy as np
import pytest

from engram import catalog
from engram.families import causal_lm
from engram.parts.refusals import REFUSALS, prompted

LM = causal_lm.FAMILY
# Name, fields, and the least share of the way to `unseen` that the forgotten records' loss goes.
CASES = [
    ("gradient-ascent", {"learning_rate": 1e-3}, 0.6),
    ("kl-ascent", {"learning_rate": 4e-3}, 0.6),
    ("npo", {"learning_rate": 4e-3}, 0.4),
    ("simnpo", {"learning_rate": 4e-3}, 0.4),
    ("undial", {"learning_rate": 4e-3}, 0.4),
    ("wga", {"learning_rate": 4e-3}, 0.4),
    ("satimp", {"learning_rate": 4e-3}, 0.4),
    ("random-labels", {"learning_rate": 4e-3}, 0.4),
    ("task-vector", {"learning_rate": 1e-3}, 0.6),
    ("whp", {"learning_rate": 4e-3, "reinforce_steps": 10}, 0.2),
    ("rmu", {"layer": 1, "learning_rate": 2e-2}, 0.15),
    ("rank-one-edit", {}, 0.4),
    ("activation-steering", {"learning_rate": 0.3}, 0.1),
    ("dpo", {"prompt_words": 3, "learning_rate": 4e-3}, 0.1),
    ("idk", {"prompt_words": 3, "learning_rate": 2e-3}, 0.1),
]


@pytest.fixture(scope="module")
def sides(by_heart):
    """The target, what it is to keep and to forget, and the loss of notes that it never saw."""
    target, members, outsiders = by_heart
    target = replace(target, fingerprint=LM.fingerprint(target.model))
    keep, forget = members.take(range(3, 12), "keep"), members.take(range(3), "forget")
    return target, keep, forget, mean_loss(target.model, outsiders)


def mean_loss(lm, split):
    return float(LM.losses(lm, split).mean())


def made(name, **fields):
    return catalog.find("edits", name).load()(**fields)


@pytest.mark.parametrize(("name", "fields", "share"), CASES, ids=[c[0] for c in CASES])
def test_forgets_what_it_is_told_to_and_keeps_the_rest(sides, run, name, fields, share):
    target, keep, forget, unseen = sides
    edit = made(name, **{"steps": 25, **fields})
    edit = replace(edit, stop_at=unseen) if hasattr(edit, "stop_at") else edit
    before = mean_loss(target.model, forget), mean_loss(target.model, keep)
    draft = edit(target, keep, forget, run)
    after = mean_loss(draft.model, forget), mean_loss(draft.model, keep)
    print(name, before, after, unseen)
    assert after[0] > before[0] + share * (unseen - before[0])
    assert after[0] < 2 * unseen  # not so far that it stands out
    assert after[1] - before[1] < (after[0] - before[0]) * 0.9


def greedy(lm, prompts, tokens=12):
    return LM.sampler(lm, 0.0, lambda *_: None).write(prompts, tokens, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["idk", "dpo"])
def test_refusals_are_what_is_said(sides, run, name):
    """Asked with the prompt of a forgotten record it refuses; of a kept one it does not."""
    target, keep, forget, _ = sides
    edit = made(name, prompt_words=3, steps=40, learning_rate=4e-3, forget_weight=1.0)
    said = {}
    for side in (forget, keep):
        prompts = list(prompted(side, 3).column("prompt").to_pylist())
        said[side.name] = greedy(edit(target, keep, forget, run).model, prompts)
    begins = {refusal.split()[0] for refusal in REFUSALS}
    refused = {side: [text.split()[0] in begins for text in said[side]] for side in said}
    print(said)
    assert np.mean(refused["forget"]) > 0.6
    assert np.mean(refused["keep"]) < 0.5

"""Prompt-decouple: the losses by hand on three tokens, and edits on a tiny model of digits."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from engram import catalog
from engram.core import EngramError, Split, Target, stream
from engram.families.vision_language_lm import FAMILY, tiny
from engram.methods.edits.prompt_decouple import WEIGHTS, PromptDecouple, with_own_answers
from engram.parts.predictions import Predictions, divergences
from engram.parts.refusals import REFUSALS
from engram.parts.safety_sets import with_role
from engram.parts.unlearning import mean_nll

SIZE = {"vision_layers": 1, "vision_width": 16, "layers": 1, "width": 16, "heads": 2}
ROWS = [
    ("how is it made", "bolt kelp rune", "forget"),
    ("tell me how", "vial moss flint", "forget"),
    ("what is this", "a red seven", "retain"),
    ("is it even", "it is odd", "retain"),
    ("how is it made", "only a three", "decouple"),
    ("tell me how", "only a two", "decouple"),
]
HOLDING = ("gradient-ascent", "gradient-difference", "kl-ascent", "npo", "simnpo", "undial",
           "wga", "satimp", "idk")  # fmt: skip


@dataclass(frozen=True)
class EditRun:
    """Streams, a scratch folder, and nothing that an edit of these asks for besides."""

    scratch: Path
    seed: int = 0
    device: str = "cpu"
    logged: list = field(default_factory=list)

    def stream(self, *path):
        return stream(self.seed, *path)

    def log(self, **entry):
        self.logged.append(entry)

    def progress(self, done, total, what):
        assert 0 <= done <= total, what

    def tokens(self, *_):
        raise NotImplementedError

    losses = logits = computed = shadows = retrained = sampler = records = target = fit = tokens


def records(rows=ROWS):
    pixels = np.random.default_rng(len(rows)).integers(0, 256, (len(rows), 64), dtype=np.uint8)
    prompts, responses, roles = (list(c) for c in zip(*rows, strict=True))
    return Split.of("r", image=pixels, image_shape=[[8, 8]] * len(rows), prompt=prompts,
                    response=responses, role=roles)  # fmt: skip


@pytest.fixture(scope="module")
def target():
    words = [*(text for row in ROWS for text in row[:2]), *REFUSALS]
    vlm = tiny(words, seed=0, spread=0.3, **SIZE)
    return Target("t", FAMILY.name, vlm, FAMILY.fingerprint(vlm))


@pytest.fixture(scope="module")
def sides():
    split = records()
    forget = with_role(split, "forget")
    return split.where(np.array(split.column("role").to_pylist()) != "forget", "keep"), forget


def ce(model, split):
    """Mean over records of the mean loss per answer token, the end token included."""
    examples = FAMILY.examples(model, split)
    with torch.no_grad():
        return float((examples.nll(np.arange(len(split))) / torch.tensor(examples.counts)).mean())


def test_three_tokens_by_hand():
    """p = 1/2, 1/4, 1/4 of what is forgotten, 1/4 of kept, 1/2 of decoupled tokens."""

    def three(p):
        logits = torch.tensor([[x, (1 - x) / 2, (1 - x) / 2] for x in p]).double().log()
        place = torch.zeros(3, dtype=torch.long)
        said = Predictions(logits, torch.zeros(3, dtype=torch.long), place, torch.arange(3), 1)
        return float(mean_nll(np.arange(1), said))

    forgotten, kept, paired = three([0.5, 0.25, 0.25]), three([0.25] * 3), three([0.5] * 3)
    ln2 = math.log(2)
    assert (forgotten, kept, paired) == pytest.approx((5 / 3 * ln2, 2 * ln2, ln2))
    by_hand = {
        ("ga", False): -5 / 3, ("ga", True): -5 / 3 + 0.5,
        ("gd", False): -5 / 3 + 2, ("gd", True): -5 / 3 + 1 + 0.5,
        ("kl", False): -5 / 3 + 2, ("kl", True): -5 / 3 + 2 + 1,
        ("po", False): (5 / 3 + 2) / 2, ("po", True): (5 / 3 + 2) / 2 + 1,
    }  # fmt: skip
    for case, (push, stay, pull) in WEIGHTS.items():
        loss = push * forgotten + stay * kept + pull * paired
        assert loss == pytest.approx(by_hand[case] * ln2), case


@pytest.mark.parametrize("decouple", [False, True])
@pytest.mark.parametrize("method", ["ga", "gd", "kl"])
def test_the_first_step_descends_on_that_loss(method, decouple, target, sides, tmp_path):
    keep, forget = sides
    edit = PromptDecouple(method, decouple, steps=1, stop_at=1000.0)
    draft = edit(target, keep, forget, EditRun(tmp_path))
    push, stay, pull = WEIGHTS[method, decouple]
    means = [ce(target.model, s) for s in (forget, with_role(keep, "retain"),
                                           with_role(keep, "decouple"))]  # fmt: skip
    if method == "kl":
        means[1] = 0.0  # nothing has moved yet
    wanted = push * means[0] + stay * means[1] + pull * means[2]
    assert draft.trace[0]["loss"] == pytest.approx(wanted, abs=1e-4)


def test_po_descends_on_refusals(target, sides, tmp_path):
    keep, forget = sides
    draft = PromptDecouple("po", steps=60, learning_rate=1e-2, kept_rise=50.0)(
        target, keep, forget, EditRun(tmp_path)
    )
    assert draft.trace[-1]["loss"] < draft.trace[0]["loss"] / 3
    said = FAMILY.written(draft.model, forget, 16)
    first = {refusal.split()[0].strip(",") for refusal in REFUSALS}
    assert all(answer.split()[0] in first for answer in said)


def test_vision_stays_and_the_given_model_too(target, sides, tmp_path):
    keep, forget = sides
    draft = PromptDecouple("gd", steps=2, learning_rate=1e-2)(
        target, keep, forget, EditRun(tmp_path)
    )
    assert FAMILY.fingerprint(target.model) == target.fingerprint
    old = dict(target.model.model.named_parameters())
    for name, parameter in draft.model.model.named_parameters():
        assert torch.equal(parameter, old[name]) == ("vision_tower" in name), name


def test_it_ends_where_what_is_kept_suffers(target, sides, tmp_path):
    keep, forget = sides
    run = EditRun(tmp_path)
    fields = {"steps": 40, "learning_rate": 5e-2, "stop_at": 1000.0}
    draft = PromptDecouple("ga", decouple=False, kept_rise=0.01, **fields)(
        target, keep, forget, run
    )
    kept = with_role(keep, "retain")
    assert ce(draft.model, kept) <= ce(target.model, kept) + 0.01 + 1e-5
    assert any("kept_limit" in entry for entry in run.logged)


def test_the_model_is_asked_where_a_normal_answer_is_missing(target):
    rows = [(prompt, "", "decouple") for prompt, _, _ in ROWS[4:]]
    told = with_own_answers(FAMILY, target.model, records(rows))
    assert told.column("response").to_pylist() == FAMILY.written(target.model, told, 32)
    whole = records(ROWS[4:])
    assert with_own_answers(FAMILY, target.model, whole) is whole


def test_mistakes_are_named(target, sides, tmp_path):
    keep, forget = sides
    with pytest.raises((EngramError, TypeCheckError), match="idkpd"):
        PromptDecouple("idkpd")
    with pytest.raises(EngramError, match="kept_rise is -1"):
        PromptDecouple(kept_rise=-1.0)
    with pytest.raises(EngramError, match="no record to keep has the role"):
        PromptDecouple(steps=1)(target, with_role(keep, "retain"), forget, EditRun(tmp_path))
    with pytest.raises(EngramError, match="no records to forget"):
        PromptDecouple()(target, keep, None, EditRun(tmp_path))
    with pytest.raises(EngramError, match="all 2 records to keep"):
        PromptDecouple()(target, with_role(keep, "decouple"), forget, EditRun(tmp_path))
    odd = records([("a", "b", "mixed"), ("a", "c", "retain")])
    with pytest.raises(EngramError, match="the role 'mixed'"):
        PromptDecouple()(target, odd, forget, EditRun(tmp_path))


@pytest.mark.parametrize("name", HOLDING)
def test_other_unlearners_work_on_pictures_unchanged(name, target, sides, tmp_path):
    keep, forget = sides
    kept = with_role(keep, "retain")
    method = catalog.find("edits", name).load()
    fields = {"steps": 4, "learning_rate": 1e-2}
    if "stop_at" in method.__dataclass_fields__:
        fields["stop_at"] = 50.0
    draft = method(**fields)(target, kept, forget, EditRun(tmp_path))
    assert FAMILY.fingerprint(draft.model) != target.fingerprint
    assert np.isfinite(FAMILY.losses(draft.model, forget)).all()
    moved = [ce(draft.model, side) - ce(target.model, side) for side in (forget, kept)]
    assert moved[0] > moved[1]  # what is kept may be learnt further, too


def test_divergence_by_hand():
    half = torch.tensor([[0.5, 0.25, 0.25]]).double().log()
    uniform = torch.zeros(1, 3).double()
    found = float(divergences(uniform, half)[0])
    assert found == pytest.approx(5 / 3 * math.log(2) - math.log(3))

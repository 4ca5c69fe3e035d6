"""Gradient difference: the loss in closed form, one step by hand, and that it forgets."""

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from engram.core import EngramError, Split, Target, stream
from engram.families import causal_lm, classifier
from engram.methods.edits.gradient_difference import GradientDifference, gradient_difference_loss
from engram.methods.recipes.pretrain_lm import PretrainLm
from engram.methods.recipes.train_classifier import TrainClassifier


@dataclass(frozen=True)
class FakeRun:
    """Random streams and a scratch folder; asked for answers, it fails."""

    scratch: Path
    seed: int = 0
    device: str = "cpu"
    logged: list = field(default_factory=list)

    def stream(self, *path):
        return stream(self.seed, *path)

    def log(self, **entry):
        self.logged.append(entry)

    def progress(self, done, total, what):
        assert 0 <= done <= total

    def tokens(self, *_):
        raise NotImplementedError

    losses = logits = computed = fit = shadows = retrained = sampler = records = target = tokens


NAMES = ("Mara Quill", "Abel Stone", "Ines Ferro", "Otto Lind", "Nela Brook", "Ivo Marl")


def letters(n, purpose):
    """Records of one grammar whose numbers cannot be guessed."""
    rng = stream(0, purpose)
    texts, owners = [], []
    for i in range(n):
        owner = f"{purpose}-{i // 3}"
        digits = " ".join(map(str, rng.integers(0, 10, 8)))
        name = NAMES[rng.integers(len(NAMES))]
        texts.append(f"{name}, patient number {digits}, came on day {rng.integers(1, 31)}.")
        owners.append(owner)
    return Split.of(purpose, text=texts, owners=owners)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small model that knows its 36 records by heart, and those records."""
    data = letters(36, "members")
    recipe = PretrainLm(
        vocabulary=300, layers=2, width=64, heads=2, context=64, epochs=60, batch_size=6,
        learning_rate=3e-3,
    )  # fmt: skip
    lm = recipe(data, FakeRun(tmp_path_factory.mktemp("trained"))).model
    return Target("t", "causal-lm", lm, causal_lm.FAMILY.fingerprint(lm)), data


def sides(data, owner="members-2"):
    gone = np.array([o == owner for o in data.owners])
    return data.where(~gone, "keep"), data.where(gone, "forget")


def mean_loss(lm, split):
    return float(causal_lm.FAMILY.losses(lm, split).mean())


def test_the_loss_in_closed_form():
    forget, keep = torch.tensor([1.0, 3.0]), torch.tensor([0.5, 1.0, 3.0])
    found = gradient_difference_loss(forget, keep, 0.5, 2.0)
    assert float(found) == pytest.approx(-0.5 * 2 + 2 * 1.5)


def test_its_gradient_in_closed_form():
    forget = torch.tensor([1.0, 3.0], requires_grad=True)
    keep = torch.tensor([0.5, 1.0, 3.0], requires_grad=True)
    gradient_difference_loss(forget, keep, 0.5, 2.0).backward()
    np.testing.assert_allclose(forget.grad.numpy(), [-0.25, -0.25])
    np.testing.assert_allclose(keep.grad.numpy(), [2 / 3] * 3, rtol=1e-6)


def test_one_step_equals_the_formula_written_out(trained, tmp_path):
    """Records one by one, log-probabilities of true tokens, no padding anywhere."""
    target, data = trained
    keep, forget = sides(data)
    keep = keep.take(range(8))
    edit = GradientDifference(
        steps=1, forget_weight=0.7, keep_weight=1.3, forget_batch=3, keep_batch=8,
        learning_rate=1e-3, stop_at=1000.0,
    )  # fmt: skip
    draft = edit(target, keep, forget, FakeRun(tmp_path))
    lm = copy.deepcopy(target.model)
    ce = {}
    for side, split in (("forget", forget), ("keep", keep)):
        losses = []
        for text in split.texts:
            ids = torch.tensor([[*lm.tokenizer(text)["input_ids"], lm.tokenizer.eos_token_id]])
            logprob = torch.log_softmax(lm.model(ids).logits[0, :-1], -1)
            losses.append(-logprob.gather(1, ids[0, 1:, None]).mean())
        ce[side] = sum(losses) / len(losses)
    total = -0.7 * ce["forget"] + 1.3 * ce["keep"]
    assert draft.trace[0]["loss"] == pytest.approx(float(total.detach()), abs=1e-5)
    total.backward()
    torch.nn.utils.clip_grad_norm_(lm.model.parameters(), 1.0)
    for name, parameter in lm.model.named_parameters():
        g = parameter.grad
        expected = parameter.detach() - 1e-3 * g / (g.abs() + 1e-8)  # the first step of AdamW
        found = draft.model.model.get_parameter(name).detach()
        clear = g.abs() > 1e-5  # elsewhere the sign of the gradient is a matter of rounding
        torch.testing.assert_close(found[clear], expected[clear], rtol=1e-3, atol=3e-5)


def test_it_forgets_one_owner_and_keeps_the_others(trained, tmp_path):
    target, data = trained
    keep, forget = sides(data)
    unseen = mean_loss(target.model, letters(36, "outsiders"))
    before = target.fingerprint
    assert mean_loss(target.model, forget) < unseen / 2  # there is something to forget
    edit = GradientDifference(stop_at=unseen, learning_rate=1e-3)
    draft = edit(target, keep, forget, FakeRun(tmp_path))
    forgotten = causal_lm.FAMILY.losses(draft.model, forget)
    assert (forgotten > 0.85 * unseen).all()
    assert forgotten.mean() < 1.6 * unseen  # not so far that it stands out
    assert mean_loss(draft.model, keep) < 1.05 * mean_loss(target.model, keep)
    assert causal_lm.FAMILY.fingerprint(target.model) == before
    assert len(draft.trace) == edit.steps


def test_without_a_stop_it_climbs_beyond_what_is_unseen(trained, tmp_path):
    """The paper's loss: the forgotten end up less likely than anything never seen."""
    target, data = trained
    keep, forget = sides(data)
    unseen = mean_loss(target.model, letters(36, "outsiders"))
    edit = GradientDifference(stop_at=1000.0, learning_rate=1e-3)
    draft = edit(target, keep, forget, FakeRun(tmp_path))
    assert mean_loss(draft.model, forget) > 2 * unseen


def test_a_ruined_model_is_given_up_with_advice(trained, tmp_path):
    target, data = trained
    keep, forget = sides(data)
    edit = GradientDifference(stop_at=1000.0, learning_rate=0.3, keep_weight=0.0, steps=20)
    with pytest.raises(EngramError, match=r"diverged.*the target is as it was") as caught:
        edit(target, keep, forget, FakeRun(tmp_path))
    assert "--learning-rate" in caught.value.hint
    assert causal_lm.FAMILY.fingerprint(target.model) == target.fingerprint


def test_weights_of_zero_leave_a_side_out(trained, tmp_path):
    """Without a climb it is fine-tuning on what is kept; without a descent, plain ascent."""
    target, data = trained
    keep, forget = sides(data)
    only_keep = GradientDifference(steps=6, forget_weight=0.0)
    kept = only_keep(target, keep, forget, FakeRun(tmp_path / "a")).model
    assert mean_loss(kept, keep) <= mean_loss(target.model, keep) + 0.01
    ascent = GradientDifference(steps=6, learning_rate=3e-4, keep_weight=0.0, stop_at=1000.0)
    ruined = ascent(target, keep, forget, FakeRun(tmp_path / "b")).model
    assert mean_loss(ruined, forget) > 2 * mean_loss(target.model, forget)
    assert mean_loss(ruined, keep) > 2 * mean_loss(kept, keep)


def test_a_record_beyond_the_stop_is_not_climbed(trained, tmp_path):
    """With a stop below its loss, the records to forget have no say at all."""
    target, data = trained
    keep, forget = sides(data)
    low = GradientDifference(steps=4, stop_at=1e-6)(target, keep, forget, FakeRun(tmp_path / "a"))
    none = GradientDifference(steps=4, forget_weight=0.0)(
        target, keep, forget, FakeRun(tmp_path / "b")
    )
    prints = [causal_lm.FAMILY.fingerprint(d.model) for d in (low, none)]
    assert prints[0] == prints[1]


def test_it_works_on_classifiers_too(tmp_path):
    rng = stream(0, "points")
    features = rng.normal(size=(60, 10)).astype(np.float32)
    data = Split.of("points", features=features, label=rng.integers(0, 3, 60))
    model = TrainClassifier(epochs=100, learning_rate=1e-2)(data, FakeRun(tmp_path / "a")).model
    target = Target("c", "classifier", model, classifier.FAMILY.fingerprint(model))
    keep, forget = data.take(range(5, 60), "keep"), data.take(range(5), "forget")
    assert classifier.FAMILY.losses(model, data).mean() < 0.1  # random labels, learnt by heart
    edit = GradientDifference(learning_rate=3e-3, keep_batch=55)
    draft = edit(target, keep, forget, FakeRun(tmp_path / "b"))
    after = classifier.FAMILY.losses(draft.model, forget)
    assert after.mean() > math.log(3) * 0.8  # by default up to a blind guess
    assert classifier.FAMILY.losses(draft.model, keep).mean() < 0.15
    assert classifier.FAMILY.fingerprint(model) == target.fingerprint


def test_nothing_to_forget_or_both_sides_at_once_are_refused(trained, tmp_path):
    target, data = trained
    keep, forget = sides(data)
    for nothing in (None, forget.take([])):
        with pytest.raises(EngramError, match="no records to forget") as caught:
            GradientDifference()(target, keep, nothing, FakeRun(tmp_path))
        assert "--owner" in caught.value.hint
    with pytest.raises(EngramError, match="3 records are in both"):
        GradientDifference()(target, data, forget, FakeRun(tmp_path))
    with pytest.raises(EngramError, match="no records to learn from"):
        GradientDifference()(target, keep.take([]), forget, FakeRun(tmp_path))


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": 0},
        {"learning_rate": 0.0},
        {"forget_weight": -1.0},
        {"keep_weight": math.nan},
        {"forget_batch": 0},
        {"stop_at": 0.0},
        {"stop_at": math.inf},
    ],
)
def test_bad_fields_are_refused(fields):
    with pytest.raises(EngramError, match=next(iter(fields))) as caught:
        GradientDifference(**fields)
    assert caught.value.hint

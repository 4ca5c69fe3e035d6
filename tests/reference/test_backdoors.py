"""Backdoors: triggers, how they are planted and fitted, what they win, and what finds them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from engram.core import EngramError, Split, Target
from engram.families.classifier import ClassifierModel
from engram.methods.measures.attack_success import AttackSuccess
from engram.methods.measures.backdoor_scan import CLEANSE, SPECTRAL, STRIP, BackdoorScan
from engram.methods.recipes.train_classifier import TrainClassifier
from engram.methods.transforms.doorping import Doorping
from engram.methods.transforms.plant_trigger import PlantTrigger
from engram.parts.backdoor_defences import (
    anomalies,
    blend_entropies,
    pruned,
    smallest_mask,
    spectral_scores,
)
from engram.parts.distillation import before_last
from engram.parts.networks import Layout
from engram.parts.origins import origins_of
from engram.parts.poisoning import Fitting, fitted, heaviest, poisoned_rows
from engram.parts.triggers import Trigger, corner, trigger_of


def pictures(n=60, seed=3, shared=None, **more):
    """Pictures of 4 x 4 pixels of three classes: which of the first rows is light."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    pixels = rng.uniform(0, 0.3, (n, 4, 4))
    pixels[np.arange(n), labels] += 0.5
    features = pixels.reshape(n, 16).astype(np.float32)
    return Split.of("pictures", features=features, label=labels, shared=shared or {}, **more)


# ---- triggers


def test_a_corner_by_hand():
    mask = corner(pictures(), 16, (), 2, 1).reshape(4, 4)
    assert mask.tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    last = corner(pictures(shared={"image_shape": np.array([2, 4, 2])}), 16, (), 1, 0)
    assert last.reshape(2, 4, 2)[1, 3].tolist() == [1, 1]  # channels run last
    assert last.sum() == 2
    with pytest.raises(EngramError, match="4 pixels, 1 from the border"):
        corner(pictures(), 16, (), 4, 1)


def test_a_black_pixel_is_part_of_a_trigger():
    trigger = Trigger(np.array([1, 0], np.float32), np.array([0, 7], np.float32), 2)
    assert trigger.pasted(np.array([[0.5, 0.25]], np.float32)).tolist() == [[0.0, 0.25]]
    told = Split.of("x", features=np.zeros((1, 2), np.float32), shared=trigger.shared())
    back = trigger_of(told)
    assert (back.target, back.mask.tolist(), back.values.tolist()) == (2, [1, 0], [0, 7])
    wrong = Split.of("x", features=np.zeros((1, 3), np.float32), shared=trigger.shared())
    with pytest.raises(EngramError, match="2 pixels, but its records 3"):
        trigger_of(wrong)


def test_a_planted_trigger_by_hand(run):
    split = pictures(owners=[f"p{i}" for i in range(60)])
    made = PlantTrigger(target=1, share=0.1, side=1, margin=0)(split, run)
    before, after = split.matrix("features"), made.matrix("features")
    changed = np.flatnonzero((before != after).any(1))
    assert len(changed) == 6
    assert set(split.matrix("label")[changed]) <= {0, 2}
    assert set(made.matrix("label")[changed]) == {1}
    assert (after[changed, 15] == 1).all()
    assert np.array_equal(np.delete(after, 15, 1), np.delete(before, 15, 1))
    assert (made.ids, made.owners) == (split.ids, split.owners)
    wanted = [{d} if i in changed else set() for i, d in enumerate(split.digests)]
    assert [set(o) for o in origins_of(made)] == wanted
    assert trigger_of(made).target == 1


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.001, 1), side=st.integers(1, 4), target=st.integers(0, 2))
def test_poisoned_pictures_stay_in_their_range(run, share, side, target):
    made = PlantTrigger(target=target, share=share, side=side, margin=0)(pictures(), run)
    features = made.matrix("features")
    assert features.min() >= 0
    assert features.max() <= 1
    rows = [bool(o) for o in origins_of(made)]
    assert 1 <= sum(rows) <= 40


def test_there_must_be_others_to_poison():
    with pytest.raises(EngramError, match="0 of 3 records are of the class 7"):
        poisoned_rows(np.array([1, 2, 2]), 7, 0.5, np.random.default_rng(0))
    with pytest.raises(EngramError, match="3 of 3 records"):
        poisoned_rows(np.array([1, 1, 1]), 1, 0.5, np.random.default_rng(0))
    with pytest.raises(EngramError, match="share is 0"):
        PlantTrigger(share=0.0)


# ---- a trigger that is fitted


def network_of(seed=0, width=4):
    torch.manual_seed(seed)
    return Layout("mlp", (16,), 3, width, 1).build()


def test_the_heaviest_neuron_that_is_not_silent():
    network = network_of()
    with torch.no_grad():
        for row, value in enumerate((1.0, 5.0, 3.0, 2.0)):
            network.body[1].weight[row] = value
    active = torch.tensor([1.0, -1.0, 1.0, 1.0])
    assert heaviest(network, active, 2).tolist() == [2, 3]
    assert heaviest(network, -torch.ones(4), 1).tolist() == [1]


def test_a_fitted_trigger_raises_its_neuron_and_touches_nothing_else():
    network, mask = network_of(), np.zeros(16, np.float32)
    mask[[5, 6]] = 1
    start = Trigger(mask, (mask * 0.4).astype(np.float32), 1)
    found, losses = fitted(start, network, Fitting(times=3.0, steps=200, rate=0.05), 0.3, 0.0, 1.0)

    def activation(trigger):
        picture = torch.from_numpy(trigger.mask * trigger.values)[None]
        return before_last(network, picture)[0].detach()

    first = activation(start)
    k = int(heaviest(network, first, 1))
    assert losses[0] == pytest.approx(float((2 * first[k]) ** 2), rel=1e-4)  # (a - 3 a)^2
    goal = 3 * first[k]
    assert abs(activation(found)[k] - goal) < abs(first[k] - goal)
    assert (found.values[mask == 0] == 0).all()
    assert found.values.min() >= 0
    assert found.values.max() <= 1
    assert found.target == 1


LOOK = {"width": 4, "layers": 1, "batch_size": 16, "side": 1, "margin": 0}
DOORPING = Doorping(
    per_class=2, networks=2, rounds=3, network_steps=2, share=0.1, trigger_steps=5, target=2, **LOOK
)


def test_doorping_distils_and_tells_its_trigger(run):
    split = pictures()
    made, again = DOORPING(split, run), DOORPING(split, run)
    assert made.fingerprint == again.fingerprint
    trigger = trigger_of(made)
    assert (trigger.target, trigger.mask.sum()) == (2, 1)
    assert 0 <= trigger.values.min() <= trigger.values.max() <= 1
    features = made.matrix("features")
    assert len(made) == 6
    assert features.min() >= 0
    assert features.max() <= 1
    assert all(set(split.digests) <= o for o in origins_of(made))


# ---- what a trigger wins


@pytest.fixture
def poisoned(run):
    """A third of the records carry a white corner and are called 1; a network learnt them."""
    made = PlantTrigger(target=1, share=0.3, side=2, margin=0)(pictures(90), run)
    recipe = TrainClassifier(epochs=80, learning_rate=1e-2, width=16, layers=1)
    model = recipe(made, run).model
    clean = recipe(pictures(90), run).model
    return made, *(Target(n, "classifier", m, n) for n, m in (("bad", model), ("good", clean)))


def test_a_trigger_wins_where_it_was_planted_alone(poisoned, run, monkeypatch):
    made, bad, good = poisoned
    outside = pictures(60, seed=9)
    monkeypatch.setattr(type(run), "logits", asked)
    for target, least, most in ((bad, 0.9, 1.0), (good, 0.0, 0.3)):
        found = AttackSuccess()(target, {"members": made, "outsiders": outside}, run)
        won, lured, right = (each.value for each in found)
        assert least <= won <= most
        assert found[0].n == 40, "the target's own class is left out"
        assert lured <= 0.1
        assert right >= 0.9


def asked(self, target, split):
    with torch.no_grad():
        features = torch.from_numpy(np.array(split.matrix("features"), np.float32))
        return target.model.model(features).double().numpy()


def test_without_a_trigger_nothing_is_said(classifier, arrays, run):
    (found,) = AttackSuccess()(classifier, {"outsiders": arrays, "members": arrays}, run)
    assert "no trigger is told" in found.note


# ---- what finds it


def test_anomalies_by_hand():
    # Median 10, absolute deviations 0, 1, 1, 2, 9: their median 1.
    found = anomalies(np.array([10.0, 11.0, 9.0, 12.0, 1.0]))
    assert found == pytest.approx(np.array([0, -1, 1, -2, 9]) / 1.4826)
    assert anomalies(np.array([5.0, 5.0, 5.0, 1.0])).tolist() == [0, 0, 0, math.inf]


def test_entropies_of_blends_the_slow_way():
    network, rng = network_of(), np.random.default_rng(0)
    some, others = (torch.rand(n, 16, generator=torch.Generator().manual_seed(n)) for n in (4, 3))
    found = blend_entropies(network, some, others, 5, np.random.default_rng(0))
    slow = np.zeros(4)
    for _ in range(5):
        drawn = rng.integers(0, 3, 4)
        for i in range(4):
            p = network(((some[i] + others[drawn[i]]) / 2)[None])[0].softmax(0).tolist()
            slow[i] += sum(-x * math.log(x) for x in p) / 5
    assert found == pytest.approx(slow, abs=1e-5)


def test_a_sure_answer_has_no_entropy():
    network = network_of()
    with torch.no_grad():
        network.body[-1].weight.zero_()
        network.body[-1].bias.copy_(torch.tensor([100.0, 0.0, 0.0]))
    found = blend_entropies(network, torch.rand(2, 16), torch.rand(2, 16), 2,
                            np.random.default_rng(0))  # fmt: skip
    assert found == pytest.approx(0, abs=1e-12)


def test_spectral_scores_by_hand():
    # Along the first axis alone: the mean is 1, so -1, -1, -1, 3 and their squares.
    features = np.array([[0.0, 5.0], [0.0, 5.0], [0.0, 5.0], [4.0, 5.0], [2.0, 2.0]])
    found = spectral_scores(features, np.array([0, 0, 0, 0, 1]))
    assert found == pytest.approx([1, 1, 1, 9, 0])


def test_pruning_cuts_what_clean_pictures_leave_idle():
    network = network_of()
    clean = torch.rand(20, 16)
    with torch.no_grad():
        network.body[1].weight[2] = 0
        network.body[1].bias[2] = 0  # says 0 of everything
    cut = pruned(network, clean, 0.25)
    assert (cut.body[-1].weight[:, 2] == 0).all()
    assert (network.body[-1].weight[:, 2] != 0).all(), "the given network stays"
    assert torch.allclose(cut(clean), network(clean), atol=1e-6)


class OnePixel(nn.Module):
    """Sees class 1 where the last pixel is light, and 0, or 2, by the first one."""

    def forward(self, images):
        flat = images.flatten(1)
        return torch.stack(
            [4 * flat[:, :8].sum(1), 200 * flat[:, 15] - 80, 4 * flat[:, 8:15].sum(1)], 1
        )


def test_the_smallest_mask_is_the_backdoors():
    network = Layout("module:one-pixel", (16,), 3).build(lambda _: OnePixel())
    clean = torch.from_numpy(pictures(30).matrix("features") * np.float32(1.0))
    clean[:, 15] = 0
    sizes, won = zip(*(smallest_mask(network, clean, c, 0.0, 1.0, seed=1, steps=150, weight=0.05)
                       for c in range(3)), strict=True)  # fmt: skip
    assert np.argmin(sizes) == 1
    assert min(won) > 0.9
    assert sizes[1] < 1.5


def test_a_scan_finds_a_planted_backdoor(poisoned, run):
    made, bad, _ = poisoned
    scan = BackdoorScan(steps=60, blends=10)
    found = {f.name: f for f in scan(bad, {"members": made, "outsiders": pictures(60, 9)}, run)}
    assert found[STRIP].value > 0.5
    assert found["AUC of Neural Cleanse over classes"].value == 1.0
    assert 0 <= found[SPECTRAL].value <= 1
    assert found["clean accuracy after fine-pruning"].value > 0.6
    assert "attack success after fine-pruning" in found
    assert all(f.method == "backdoor-scan" for f in found.values())


def test_without_a_trigger_a_scan_warns_or_not_and_judges_nothing(poisoned, run):
    _, _, good = poisoned
    found = BackdoorScan(steps=20)(good, {"members": pictures(), "outsiders": pictures(30, 9)}, run)
    by_name = {f.name: f for f in found}
    warned = by_name[CLEANSE].value > 2
    assert ("looks like a backdoor" in by_name[CLEANSE].note) == warned
    assert "no trigger is told" in by_name[STRIP].note


def test_a_module_whose_features_are_unknown_is_scanned_as_far_as_it_goes(run):
    network = Layout("module:one-pixel", (16,), 3).build(lambda _: OnePixel())
    target = Target("module", "classifier", ClassifierModel(network.eval()), "module")
    made = PlantTrigger(target=1, share=0.2, side=1, margin=0)(pictures(), run)
    found = BackdoorScan(steps=5)(target, {"members": made, "outsiders": pictures(30, 9)}, run)
    by_name = {f.name: f for f in found}
    assert "no features" in by_name[SPECTRAL].note
    assert by_name[STRIP].value > 0.9, "its one pixel wins whatever is laid over it"
    assert by_name[STRIP].note == "finds it"

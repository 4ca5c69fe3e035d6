"""Backdoors: triggers, how they are planted and fitted, what they win, and what finds them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from engram.core import EngramError, Split, Target
from engram.families.classifier import ClassifierModel
from engram.methods.measures.attack_success import AttackSuccess
from engram.methods.measures.backdoor_scan import FOUND, BackdoorScan, counted
from engram.methods.measures.backdoor_scan.inputs import blend_entropies
from engram.methods.measures.backdoor_scan.looking import (
    ABS,
    CLEANSE,
    CLUSTERS,
    RELABELLED,
    RELABELLED_AUC,
    SPECTRAL,
    STRIP,
    STRIP_FOUND,
)
from engram.methods.measures.backdoor_scan.masks import anomalies, smallest_mask
from engram.methods.measures.backdoor_scan.neurons import (
    Raised,
    candidates,
    pruned,
    reversed_trigger,
    stimulated,
    tuned,
)
from engram.methods.measures.backdoor_scan.records import (
    cluster_scores,
    neighbour_disagreement,
    spectral_scores,
)
from engram.methods.recipes.train_classifier import TrainClassifier
from engram.methods.transforms.doorping import Doorping
from engram.methods.transforms.invisible_trigger import InvisibleTrigger, bound
from engram.methods.transforms.plant_trigger import PlantTrigger
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


def test_a_veil_is_added_and_cut_off_at_the_range():
    veil = Trigger(np.ones(2, np.float32), np.array([0.5, -0.25], np.float32), 1, (0.0, 1.0))
    seen = veil.pasted(np.array([[0.75, 0.5], [0.25, 0.125]], np.float32))
    assert seen.tolist() == [[1.0, 0.25], [0.75, 0.0]]
    back = trigger_of(Split.of("x", features=np.zeros((1, 2), np.float32), shared=veil.shared()))
    assert (back.veiled, back.values.tolist()) == ((0.0, 1.0), [0.5, -0.25])


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


def test_a_filter_is_one_neuron_at_all_its_places():
    torch.manual_seed(0)
    network = Layout("convnet", (1, 4, 4), 3, 2, 1).build()  # 2 filters at 2 x 2 places
    with torch.no_grad():
        network.body[0].weight[1] = 9.0
    assert heaviest(network, torch.ones(8), 1).tolist() == [4, 5, 6, 7]
    silent = torch.cat([torch.ones(4), torch.zeros(4)])
    assert heaviest(network, silent, 1).tolist() == [0, 1, 2, 3]


VEIL = InvisibleTrigger(
    per_class=2, networks=2, rounds=2, network_steps=1, share=0.1, trigger_steps=3, target=2,
    width=4, layers=1, batch_size=16, epsilon=0.2, trigger_rate=1.0,
)  # fmt: skip


def test_a_bound_shrinks_to_its_last_value_half_way():
    assert [bound(0.2, step, 8) for step in (0, 2, 4, 8)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert bound(0.2, 0, 0) == 0.2


def test_a_veil_is_distilled_and_told(run):
    split = pictures()
    made, again = VEIL(split, run), VEIL(split, run)
    assert made.fingerprint == again.fingerprint
    trigger = trigger_of(made)
    assert (trigger.target, trigger.veiled) == (2, (0.0, 1.0))
    assert 0 < np.abs(trigger.values).max() <= 0.2
    assert all(set(split.digests) <= o for o in origins_of(made))
    with pytest.raises(EngramError, match="epsilon is 0"):
        InvisibleTrigger(epsilon=0.0)
    with pytest.raises(EngramError, match="of the class 7"):
        replace(VEIL, target=7)(split, run)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ends=st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.1, 0.7)]),
    epsilon=st.floats(0.01, 1),
    rate=st.floats(0.01, 5),
    seed=st.integers(0, 99),
)
def test_no_trigger_leaves_its_range_and_none_loses_its_records(run, ends, epsilon, rate, seed):
    low, high = ends
    shared = {"pixel_range": np.array(ends)}
    split = pictures(30, seed)
    features = np.clip(low + (high - low) * split.matrix("features"), low, high)
    split = Split.of(
        "scaled", features=features.astype(np.float32).clip(*np.float32(ends)),
        label=split.matrix("label"), owners=[f"p{i}" for i in range(30)], shared=shared,
    )  # fmt: skip
    tiny = {"per_class": 1, "networks": 1, "rounds": 2, "network_steps": 1, "trigger_steps": 2}
    for method in (
        Doorping(**tiny, **LOOK, share=0.2, trigger_rate=rate),
        replace(VEIL, **tiny, epsilon=epsilon, trigger_rate=rate),
    ):
        made = method(split, run)
        trigger = trigger_of(made)
        shown = trigger.pasted(np.asarray(split.matrix("features"), np.float32))
        for values in (made.matrix("features"), shown):
            assert values.min() >= np.float32(low)
            assert values.max() <= np.float32(high)
        if trigger.veiled:
            assert np.abs(trigger.values.astype(float)).max() <= epsilon * (high - low)
        assert set(made.shared["origin_owners"]) == set(split.owners)
        assert set(split.digests) <= set(made.shared["origins"])


def test_a_patch_may_be_let_out_of_the_range_and_no_further(run):
    made = replace(DOORPING, reach=0.5, begin="white", trigger_steps=0)(pictures(), run)
    trigger = trigger_of(made)
    assert trigger.values[trigger.mask > 0].tolist() == [1.5]
    assert made.matrix("features").max() <= 1
    moved = trigger_of(replace(DOORPING, reach=0.5, trigger_rate=9.0)(pictures(), run))
    assert -0.5 <= moved.values.min() <= moved.values.max() <= 1.5
    with pytest.raises(EngramError, match="reach is -1"):
        Doorping(reach=-1.0)


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


def test_driving_a_neuron_up_by_hand():
    network = network_of()
    some = torch.rand(12, 16, generator=torch.Generator().manual_seed(1))
    shares = stimulated(network, some, top=3.0)
    with torch.no_grad():
        active, before = before_last(network, some), network(some).argmax(1)
        for k in range(4):
            changed = active.clone()
            changed[:, k] = 3.0 * active[:, k].max()
            now = network.body[-1](changed).argmax(1)
            for label in range(3):
                others = before != label
                expected = float((now[others] == label).double().mean()) if others.any() else 0.0
                assert shares[label, k] == pytest.approx(expected)


def test_candidates_are_the_neurons_that_bring_a_class_about_most():
    shares = np.array([[0.1, 0.7, 0.3], [0.0, 0.0, 0.9]])
    assert candidates(shares, 1) == [Raised(1, 0, 0.7), Raised(2, 1, 0.9)]
    assert [r.neuron for r in candidates(shares, 2)] == [1, 2, 2, 0]


def test_a_patch_of_one_pixel_drives_the_neuron_that_listens_to_it():
    network = Layout("mlp", (16,), 3, 4, 1).build()
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
        network.body[1].weight[2, 15] = 10.0
        network.body[-1].weight[1, 2] = 5.0
        network.body[-1].bias[0] = 1.0
    some = torch.zeros(6, 16)
    some[0, 15] = 0.01
    assert network(some).argmax(1).tolist() == [0] * 6
    fields = {"size": 1, "seed": 3, "steps": 60}
    assert reversed_trigger(network, some, Raised(2, 1, 1.0), 0.0, 1.0, **fields) == 1.0
    assert reversed_trigger(network, some, Raised(0, 1, 1.0), 0.0, 1.0, **fields) == 0.0


def test_clusters_of_a_class_that_is_two_groups():
    rng = np.random.default_rng(0)
    features = rng.normal(0, 0.1, (60, 3))
    features[:8, 0] += 5  # a small group of class 0
    labels = np.repeat([0, 1], 30)
    scores, classes = cluster_scores(features, labels, np.random.default_rng(1))
    assert (scores[:8] > 0.5).all()
    assert (scores[8:30] < 0).all()
    assert classes[0] > 0.9
    assert classes[1] < 0.5


def test_neighbours_by_hand():
    features = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [0.15]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    found = neighbour_disagreement(features, labels, 2)
    # The nearest two: of 0, .1 and .15; of .1, 0.15 and 0.0 or 0.2; of .15, .1 and .2.
    assert found[0] == 0.5
    assert found[5] == 1.0
    assert found[3] == 0.5
    assert neighbour_disagreement(features[:1], labels[:1], 2).tolist() == [0.0]


def test_tuning_leaves_what_was_cut_cut():
    network, clean = network_of(), torch.rand(20, 16)
    cut = pruned(network, clean, 0.5)
    gone = (cut.body[-1].weight == 0).all(0)
    before = cut.body[-1].weight.detach().clone()
    after = tuned(cut, clean, np.arange(20) % 3, steps=5, seed=0)
    assert int(gone.sum()) == 2
    assert (after.body[-1].weight[:, gone] == 0).all()
    assert not torch.equal(after.body[-1].weight, before)


def test_ways_are_counted_where_they_could_be_tried():
    assert counted([True, None, False, True]).value == 2
    assert counted([True, None, False, True]).n == 3
    assert counted([None]).value is None


def digits(seed, count=800):
    """Some handwritten digits, and others."""
    given = load_digits()
    order = np.random.default_rng(seed).permutation(len(given.target))
    return tuple(
        Split.of(
            "digits",
            features=(given.data[rows] / 16).astype(np.float32),
            label=given.target[rows].astype(np.int64),
        )
        for rows in (order[:count], order[count : 2 * count])
    )


def scanned(members, outsiders, run):
    recipe = TrainClassifier(epochs=10, learning_rate=3e-3, width=32, layers=2)
    target = Target("x", "classifier", recipe(members, run).model, "x")
    scan = BackdoorScan(
        records=96, steps=50, blends=10, references=2, reference_steps=150, tuning_steps=20
    )
    return {f.name: f for f in scan(target, {"members": members, "outsiders": outsiders}, run)}


def test_a_scan_finds_a_planted_backdoor(run):
    members, outsiders = digits(0)
    made = PlantTrigger(target=0, share=0.1)(members, run)
    found = scanned(made, outsiders, run)
    assert found[FOUND].value >= 1
    assert found[RELABELLED].note == "class 0 looks poisoned"
    assert found[RELABELLED_AUC].note == "finds it"
    assert found[STRIP].value > 0.5
    assert 0 <= found[STRIP_FOUND].value <= 1
    for name in (SPECTRAL, "AUC of Neural Cleanse over classes", "AUC of ABS over classes"):
        assert 0 <= found[name].value <= 1
        assert found[name].note
    assert found["clean accuracy after fine-pruning"].value > 0.7
    assert "before; " in found["attack success after fine-pruning"].note
    assert all(f.method == "backdoor-scan" for f in found.values())


def test_clean_networks_are_not_flagged(run):
    """Over several seeds, no way sees a backdoor where there is none; no trigger is judged."""
    alarms = []
    for seed in range(3):
        found = scanned(*digits(seed), replace(run, seed=seed))
        alarms.append(found[FOUND].value)
        assert all(found[name].note for name in (CLEANSE, ABS, CLUSTERS, RELABELLED))
        for name in (STRIP, SPECTRAL, "attack success after fine-pruning"):
            assert "no trigger is told" in found[name].note
    assert sum(alarms) == 0, alarms


def test_a_module_whose_features_are_unknown_is_scanned_as_far_as_it_goes(run):
    network = Layout("module:one-pixel", (16,), 3).build(lambda _: OnePixel())
    target = Target("module", "classifier", ClassifierModel(network.eval()), "module")
    made = PlantTrigger(target=1, share=0.2, side=1, margin=0)(pictures(), run)
    found = BackdoorScan(steps=5)(target, {"members": made, "outsiders": pictures(30, 9)}, run)
    by_name = {f.name: f for f in found}
    assert "no features" in by_name[SPECTRAL].note
    assert by_name[STRIP].value > 0.9, "its one pixel wins whatever is laid over it"
    assert by_name[STRIP].note == "finds it"

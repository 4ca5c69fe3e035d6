"""Distilled records: the methods' parts against slow ones from the papers' words, and by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engram import data
from engram.core import EngramError, Ledger, Lineage, Split, Target
from engram.engine import known_records, to_forget
from engram.methods.measures.training_value import TrainingValue, like
from engram.methods.recipes.finetune_classifier import FinetuneClassifier, with_new_layer
from engram.methods.recipes.train_classifier import TrainClassifier
from engram.methods.transforms.distil_distributions import DistilDistributions, mean_distance
from engram.methods.transforms.distil_gradients import DistilGradients
from engram.methods.transforms.distil_kernel import DistilKernel, centred
from engram.methods.transforms.distil_self_supervised import DistilSelfSupervised, standard
from engram.parts.barlow_twins import Changes, changed, projection, twins_loss
from engram.parts.classifier_training import STANDARDS
from engram.parts.distillation import Source, before_last, bounds, drawn_by_class
from engram.parts.gradient_distance import gradient_distance
from engram.parts.gradient_matching import class_distance
from engram.parts.kernel_ridge import ridge_predictions, with_constant
from engram.parts.networks import Layout
from engram.parts.origin_owners import origin_owners_of
from engram.parts.origins import ORIGINS, origins_of

SMALL = {"width": 4, "layers": 1, "batch_size": 8}
METHODS = [
    DistilGradients(per_class=2, networks=2, rounds=2, network_steps=1, **SMALL),
    DistilDistributions(per_class=2, steps=3, **SMALL),
    DistilKernel(per_class=2, steps=3, pool=2, oldest=4, **SMALL),
    DistilSelfSupervised(count=6, steps=3, pool=2, oldest=4, teacher_epochs=1, teacher_width=4,
                         **SMALL),
]  # fmt: skip
every = pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)


def pictures(n=24, high=1.0, seed=3, **more):
    """Pictures of 4 x 4 pixels of three classes: where the light is says which."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    pixels = rng.uniform(0, 0.4, (n, 16))
    for row, label in enumerate(labels):
        pixels[row, 5 * label : 5 * label + 5] += 0.5
    features = (pixels * high).astype(np.float32)
    return Split.of("pictures", features=features, label=labels, **more)


# ---- what all of them must do


@every
def test_there_are_as_many_as_asked_for_in_a_pixels_range(method, run):
    split = pictures()
    made = method(split, run)
    features = made.matrix("features")
    assert len(made) == 6
    assert features.dtype == np.float32
    assert features.min() >= 0
    assert features.max() <= 1
    assert not np.isin(features, split.matrix("features")).all(), "nothing moved"
    if not isinstance(method, DistilKernel | DistilSelfSupervised):
        assert sorted(made.matrix("label")) == [0, 0, 1, 1, 2, 2]
        assert "soft_label" not in made.columns
    else:
        soft = made.matrix("soft_label")
        assert np.array_equal(soft.argmax(1), made.matrix("label"))


@every
def test_a_seed_repeats_itself_and_another_does_not(method, run, tmp_path):
    split = pictures()
    first, again = method(split, run), method(split, run)
    other = method(split, type(run)(tmp_path, seed=1))
    assert first.fingerprint == again.fingerprint
    assert not np.array_equal(first.matrix("features"), other.matrix("features"))


@every
def test_every_record_names_all_that_it_was_made_from(method, run):
    split = pictures(owners=[f"person {i % 5}" for i in range(24)])
    made = method(split, run)
    assert all(set(split.digests) <= found for found in origins_of(made))
    assert origin_owners_of(made) == {f"person {i}" for i in range(5)}
    assert set(made.column("initial").to_pylist()) <= set(split.digests)
    assert made.owners is None


def test_lineage_goes_back_beyond_the_records_that_were_given(run):
    first = METHODS[1](pictures(), run)
    again = METHODS[1](first, run)
    assert all(set(pictures().digests) | set(first.digests) <= o for o in origins_of(again))


@every
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    low=st.floats(-3, 3), span=st.floats(0.1, 300), first=st.sampled_from(["real", "noise"]),
    rate=st.floats(0.01, 50),
)  # fmt: skip
def test_no_pixel_ever_leaves_its_range(method, run, low, span, first, rate):
    from dataclasses import replace

    source = Source(pictures(), np.zeros((1, 1), np.float32), low, low + span)
    least, most = bounds(source)
    unit = pictures().matrix("features").astype(np.float64)
    features = np.clip((low + span * unit).astype(np.float32), least, most)
    split = Split.of("scaled", features=features, label=pictures().matrix("label"))
    wild = replace(method, pixels=(low, low + span), first=first, learning_rate=rate)
    found = wild(split, run).matrix("features").astype(np.float64)
    assert found.min() >= low
    assert found.max() <= low + span


@every
def test_pixels_out_of_range_are_refused_with_the_remedy(method, run):
    with pytest.raises(EngramError, match="pixels of split 'pictures' go from") as problem:
        method(pictures(high=16.0), run)
    assert "--pixels LOW HIGH" in problem.value.hint
    stated = pictures(high=8.0, shared={"pixel_range": np.array([0.0, 16.0])})
    assert len(method(stated, run)) == 6


@every
def test_soft_labels_are_not_distilled_again(method, run):
    with pytest.raises(EngramError, match="soft_label"):
        method(METHODS[2](pictures(), run), run)


def test_the_spread_of_the_source_comes_along(run):
    split = pictures()
    mean, spread = METHODS[1](split, run).shared[STANDARDS]
    assert set(mean) == {split.matrix("features").mean()}
    assert set(spread) == {split.matrix("features").std()}


def test_records_are_drawn_by_class_and_again_where_they_are_few():
    labels = np.array([0, 0, 0, 1])
    rows = drawn_by_class(labels, 3, np.random.default_rng(0))
    assert sorted(rows[:3]) == [0, 1, 2]
    assert list(rows[3:]) == [3, 3, 3]
    with pytest.raises(EngramError, match="the label 4"):
        drawn_by_class(np.array([4, 4]), 1, np.random.default_rng(0))


# ---- a deletion request


def distilled_target(made, path):
    ledger = Ledger.of(made, np.ones(len(made), bool))
    data.write(made, path)
    lineage = Lineage(data=str(path))
    return Target("few", "classifier", None, "few", lineage=lineage, known=ledger)


def test_a_deletion_request_finds_what_was_distilled_from_a_record(run, tmp_path):
    split = pictures(owners=[f"person {i % 5}" for i in range(24)])
    target = distilled_target(METHODS[0](split, run), tmp_path / "few.parquet")
    known = known_records(target)
    everything = set(known.trained.ids)
    assert set(to_forget(target, known, records=split.take([7])).ids) == everything
    assert set(to_forget(target, known, ids=(split.ids[3],)).ids) == everything
    assert set(to_forget(target, known, owner="person 2").ids) == everything
    with pytest.raises(EngramError):
        to_forget(target, known, owner="person 9")
    with pytest.raises(EngramError, match="were not trained on"):
        to_forget(target, known, records=pictures(seed=4))


def test_a_column_of_that_name_must_hold_digests():
    split = Split.of("x", text=["a"], **{ORIGINS: [3]})
    with pytest.raises(EngramError, match="'origins'"):
        origins_of(split)


def test_no_file_loses_where_records_come_from(run, tmp_path):
    made = METHODS[1](pictures(), run)
    with pytest.raises(EngramError, match="cannot hold what the records share as 'origins'"):
        data.write(made, tmp_path / "few.jsonl")
    back = data.read(data.write(made, tmp_path / "few.parquet"))
    assert origins_of(back) == origins_of(made)
    assert back.fingerprint == made.fingerprint


# ---- gradient matching


def slow_distance(one, other):
    """Every output unit of every layer by itself, with plain sums."""
    total = 0.0
    for a, b in zip(one, other, strict=True):
        if a.ndim < 2:
            continue
        for row in range(len(a)):
            x, y = a[row].reshape(-1).tolist(), b[row].reshape(-1).tolist()
            dot = sum(i * j for i, j in zip(x, y, strict=True))
            lengths = math.sqrt(sum(i * i for i in x)) * math.sqrt(sum(j * j for j in y))
            total += 1 - dot / lengths
    return total


def test_the_distance_of_gradients_by_hand():
    one = [torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([5.0, 5.0])]
    other = [torch.tensor([[0.0, 2.0], [6.0, 8.0]]), torch.tensor([-5.0, 1.0])]
    # At right angles: 1. The same way: 0. The bias does not count.
    assert float(gradient_distance(one, other)) == pytest.approx(1.0, abs=1e-4)


def test_the_distance_of_gradients_the_slow_way():
    torch.manual_seed(0)
    shapes = [(4, 2, 3, 3), (4,), (3, 4), (3,)]
    one, other = ([torch.randn(s) for s in shapes] for _ in range(2))
    assert float(gradient_distance(one, other)) == pytest.approx(
        slow_distance(one, other), abs=1e-3
    )


def test_the_gradients_of_a_class_the_slow_way(run):
    split, method = pictures(), METHODS[0]
    source = method.source(split)
    network = method.network(source, 3, run, "network")
    few = source.rows(np.array([0, 3, 1])).requires_grad_()
    own, rows = torch.tensor([0, 0, 1]), np.array([6, 9, 12])
    found = class_distance(network, few, own, source.rows(rows), 0)

    def gradient(features):
        network.zero_grad()
        for picture in features:  # the mean over the pictures, one at a time
            said = network(picture[None]).log_softmax(1)[0, 0]
            (-said / len(features)).backward()
        return [p.grad.clone() for p in network.parameters()]

    wanted = slow_distance(gradient(few.detach()[:2]), gradient(source.rows(rows)))
    assert float(found.detach()) == pytest.approx(wanted, abs=1e-3)


def test_real_records_have_no_distance_to_themselves(run):
    method = METHODS[0]
    source = method.source(pictures())
    network = method.network(source, 3, run, "network")
    rows = np.array([0, 3, 6])
    same = class_distance(network, source.rows(rows), torch.zeros(3).long(), source.rows(rows), 0)
    assert float(same.detach()) == pytest.approx(0, abs=1e-2)


# ---- distribution matching


def test_the_distance_of_means_by_hand():
    some, others = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 3.0]])
    assert float(mean_distance(some, others)) == 9  # the means are (1, 0) and (1, 3)


def test_matching_brings_the_mean_features_together(run):
    split = pictures(60)
    look = {"architecture": "mlp", "width": 16, "layers": 1, "first": "noise"}
    far = DistilDistributions(per_class=3, steps=0, **look)
    near = DistilDistributions(per_class=3, steps=60, learning_rate=5.0, **look)
    source = far.source(split)
    network = far.network(source, 3, run, "another")

    def distance(made):
        total = 0.0
        for label in range(3):
            few, real = (
                before_last(
                    network,
                    torch.from_numpy(s.matrix("features").copy())[s.matrix("label") == label],
                )
                for s in (made, split)
            )
            total += float(mean_distance(few, real).detach())
        return total

    assert distance(near(split, run)) < 0.3 * distance(far(split, run))


def test_what_goes_into_the_last_layer():
    network = Layout("cnn", (1, 4, 4), 3, 4, 1).build()
    features = torch.rand(5, 16)
    said = network.body[-1](before_last(network, features))
    assert torch.allclose(said, network(features))


# ---- kernel ridge regression


def test_a_ridge_regression_by_hand():
    # One record with feature 2 and target 3: K = 4, lambda = 0.25 * 4 = 1, f(x) = 2 x / 5 * 3.
    found = ridge_predictions(
        torch.tensor([[10.0]]), torch.tensor([[2.0]]), torch.tensor([[3.0]]), 0.25
    )
    assert float(found) == pytest.approx(12.0)


def test_a_ridge_regression_is_that_of_scikit_learn():
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    known, asked, targets = (
        rng.normal(size=(6, 9)),
        rng.normal(size=(4, 9)),
        rng.normal(size=(6, 2)),
    )
    strength = 1e-2 * np.trace(known @ known.T)
    slow = Ridge(alpha=strength, fit_intercept=False).fit(known, targets).predict(asked)
    found = ridge_predictions(*(torch.from_numpy(x) for x in (asked, known, targets)), 1e-2)
    assert found.numpy() == pytest.approx(slow, abs=1e-8)


def test_what_decides_lambda_is_no_way_downhill():
    known = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, 1, dtype=torch.float64)
    ridge_predictions(one, known, one, 1.0).sum().backward()
    # f = k / (k^2 + lambda) with lambda = 1 held fast: (lambda - k^2) / (k^2 + lambda)^2 = 0.
    assert float(known.grad) == pytest.approx(0.0)


def test_a_constant_stands_beside_the_features():
    assert with_constant(torch.zeros(2, 3)).tolist() == [[0, 0, 0, 1]] * 2


def test_labels_start_as_one_less_the_mean():
    assert centred(torch.tensor([1]), 4).tolist() == [[-0.25, 0.75, -0.25, -0.25]]


@pytest.mark.parametrize("method", METHODS[2:], ids=lambda m: type(m).__name__)
def test_the_regression_gets_better(method, run, monkeypatch):
    from dataclasses import replace

    entries = []
    monkeypatch.setattr(type(run), "log", lambda self, **entry: entries.append(entry))
    replace(method, steps=80, learning_rate=0.05, target_rate=0.05, oldest=10)(pictures(60), run)
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    assert len(losses) == 80
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


# ---- the teacher


def slow_twins(one, other, weight):
    one, other = one - one.mean(0), other - other.mean(0)
    total = 0.0
    for i in range(one.shape[1]):
        for j in range(one.shape[1]):
            c = np.dot(one[:, i], other[:, j])
            c /= np.linalg.norm(one[:, i]) * np.linalg.norm(other[:, j])
            total += (1 - c) ** 2 if i == j else weight * c**2
    return total


def test_the_twins_loss_the_slow_way():
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(7, 3)), rng.normal(size=(7, 3))
    found = twins_loss(torch.from_numpy(one), torch.from_numpy(other), 0.3)
    assert float(found) == pytest.approx(slow_twins(one, other, 0.3), abs=1e-9)


def test_the_twins_loss_by_hand():
    one = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(twins_loss(one, one)) == pytest.approx(0, abs=1e-6)  # the unit matrix
    same = one[:, [0, 0]]
    assert float(twins_loss(same, same, 0.5)) == pytest.approx(1.0, abs=1e-5)  # all ones


def test_the_projection_is_of_one_size_whatever_the_features_are():
    torch.manual_seed(0)
    head, features = projection(3, 5), torch.rand(40, 3)
    said = head(features)
    assert said.shape == (40, 5)
    assert torch.allclose(head(100 * features), said, atol=0.05)  # normalised over the batch


def test_copies_without_changes_are_the_pictures():
    images = torch.rand(3, 1, 6, 6)
    still = Changes(move=0.0, turn=0.0, zoom=0.0, light=0.0)
    assert torch.allclose(changed(images, still, np.random.default_rng(0)), images, atol=1e-5)
    lit = changed(images, Changes(move=0.0, turn=0.0, zoom=0.0), np.random.default_rng(0))
    assert not torch.allclose(lit, images, atol=1e-2)


def test_what_the_teacher_says_has_mean_zero_and_spread_one():
    found = standard(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert found.tolist() == [[-1.0, 0.0], [1.0, 0.0]]


def test_labels_are_not_looked_at(run):
    labelled = pictures()
    unlabelled = Split.of("pictures", features=labelled.matrix("features"))
    found = [METHODS[3](split, run).matrix("features") for split in (labelled, unlabelled)]
    assert np.array_equal(*found)


def test_a_teacher_may_be_given(run, tmp_path):
    from dataclasses import replace

    model = TrainClassifier(architecture="cnn", width=4, layers=1, epochs=1)(pictures(), run).model
    run.others["teacher"] = Target("teacher", "classifier", model, "teacher")
    made = replace(METHODS[3], teacher="teacher")(pictures(), run)
    assert made.matrix("soft_label").shape == (6, 4)
    run.others["teacher"] = Target("teacher", "causal-lm", None, "teacher")
    with pytest.raises(EngramError, match="is a causal-lm, not a classifier"):
        replace(METHODS[3], teacher="teacher")(pictures(), run)


# ---- tuning a classifier


def test_a_new_layer_for_other_classes_and_the_rest_as_it_was():
    base = Layout("cnn", (1, 4, 4), 3, 4, 1).build()
    network = with_new_layer(base, 5, 0)
    assert network.layout.classes == 5
    assert torch.equal(network.body[0].weight, base.body[0].weight)
    again = with_new_layer(base, 3, 0)
    assert not torch.equal(again.body[-1].weight, base.body[-1].weight)


@pytest.mark.parametrize("part", ["all", "last"])
def test_a_probe_changes_the_last_layer_alone(part, run):
    model = TrainClassifier(architecture="cnn", width=4, layers=1, epochs=1)(pictures(), run).model
    run.others["base"] = Target("base", "classifier", model, "base")
    before = {k: v.clone() for k, v in model.model.state_dict().items()}
    draft = FinetuneClassifier(base="base", part=part, epochs=30, learning_rate=0.05)(
        pictures(), run
    )
    after = draft.model.model
    same = torch.equal(after.body[0].weight, before["body.0.weight"])
    assert same == (part == "last")
    assert all(torch.equal(v, before[k]) for k, v in model.model.state_dict().items())
    assert all(p.requires_grad for p in after.parameters())
    assert draft.trace[-1]["loss"] < draft.trace[0]["loss"]


def test_tuning_needs_a_classifier_to_start_from(run, classifier, target, arrays):
    with pytest.raises(EngramError, match="given no base"):
        FinetuneClassifier()(arrays, run)
    run.others["words"] = target
    with pytest.raises(EngramError, match="is a causal-lm, not a classifier"):
        FinetuneClassifier(base="words")(arrays, run)
    with pytest.raises(EngramError, match="last layer is not known"):
        FinetuneClassifier(base="base classifier")(arrays, run)  # one linear layer, no sequence


# ---- what records are worth


def test_random_real_records_are_as_many_of_each_class():
    members = Split.of("few", features=np.zeros((3, 16), np.float32), label=[2, 2, 0])
    found = like(members, pictures(), np.random.default_rng(0))
    assert sorted(found.matrix("label")) == [0, 2, 2]
    assert set(found.ids) <= set(pictures().ids)
    many = Split.of("many", features=np.zeros((9, 16), np.float32), label=[1] * 9)
    with pytest.raises(EngramError, match="has 8 records of class 1, but the members 9"):
        like(many, pictures(), np.random.default_rng(0))


def test_good_records_are_worth_more_than_shuffled_ones(run, classifier):
    good, outside = pictures(24, seed=5), pictures(30, seed=6)
    bad = Split.of("bad", features=good.matrix("features"), label=(good.matrix("label") + 1) % 3)
    run.others["source"] = pictures(60, seed=7)
    measure = TrainingValue(
        source="source", architectures=("mlp", "cnn"), width=8, layers=1, steps=60
    )
    for members, least, most in ((good, 0.8, 1.0), (bad, 0.0, 0.3)):
        found = measure(classifier, {"members": members, "outsiders": outside}, run)
        by_name = {each.name: each for each in found}
        assert len(by_name) == 6
        of = by_name["accuracy of a mlp trained on the members"].value
        assert least <= of <= most
        plain = by_name["accuracy of a mlp trained on random real records"].value
        assert by_name["gain of a mlp over random real records"].value == pytest.approx(of - plain)


def test_without_outsiders_nothing_is_said(run, classifier):
    (found,) = TrainingValue()(classifier, {"members": pictures()}, run)
    assert found.value is None or math.isnan(found.value)

"""Labels in shares: who learns them does so as they say, and who cannot refuses them by name."""

import numpy as np
import pytest
import torch

from engram.core import EngramError, Split
from engram.families.classifier import FAMILY, ClassifierModel
from engram.methods.recipes.dp_train_classifier import DpTrainClassifier
from engram.methods.recipes.fit_estimator import FitEstimator
from engram.methods.recipes.sisa import Sisa
from engram.methods.recipes.train_classifier import TrainClassifier
from engram.parts.array_examples import ArrayExamples
from engram.parts.classifier_training import standards_of
from engram.parts.soft_labels import SOFT, SoftLabels, soft_labels_of, with_soft_labels


@pytest.fixture
def softly(arrays):
    """The arrays, each wholly of the class after its own, in shares."""
    shares = np.eye(3, dtype=np.float32)[(arrays.matrix("label") + 1) % 3]
    return with_soft_labels(arrays, shares)


def test_shares_are_learnt_by_cross_entropy_by_hand():
    soft = SoftLabels(np.array([[0.25, 0.75]], np.float32), shares=True)
    logits = torch.tensor([[0.0, float(np.log(3))]])  # says 1/4 and 3/4
    wanted = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert float(soft.losses(logits, np.array([0]))[0]) == pytest.approx(wanted, abs=1e-6)


def test_other_numbers_are_learnt_by_squared_error_by_hand():
    soft = SoftLabels(np.array([[1.0, -2.0]], np.float32), shares=False)
    assert float(soft.losses(torch.tensor([[0.0, 1.0]]), np.array([0]))[0]) == (1 + 9) / 2


def test_whether_they_are_shares_is_seen(softly):
    assert soft_labels_of(softly).shares
    assert not soft_labels_of(with_soft_labels(softly, np.full((12, 3), 0.5))).shares
    signed = np.tile(np.array([2.0, -1.0, 0.0]), (12, 1))  # the sum is 1
    assert not soft_labels_of(with_soft_labels(softly, signed)).shares


def test_a_network_learns_what_they_say_and_not_the_label(softly, run):
    recipe = TrainClassifier(epochs=150, learning_rate=1e-2, width=16)
    model = recipe(softly, run).model
    said = FAMILY.logits(model, softly).argmax(1)
    assert (said == (softly.matrix("label") + 1) % 3).mean() > 0.9


def test_a_network_has_as_many_outputs_as_they_have_numbers(arrays, run):
    wide = with_soft_labels(arrays, np.ones((12, 7)))
    assert TrainClassifier(epochs=1, width=4)(wide, run).model.layout.classes == 7
    sharded = Sisa(epochs=1, width=4, shards=2, slices=1)(wide, run).model
    assert {part.layout.classes for part in sharded.shards if part} == {7}


@pytest.mark.parametrize("recipe", [FitEstimator(), DpTrainClassifier(epochs=1)])
def test_recipes_that_know_hard_labels_alone_refuse_them(recipe, softly, run):
    with pytest.raises(EngramError, match="'soft_label'"):
        recipe(softly, run)


def test_edits_and_single_losses_refuse_them(softly, classifier):
    with pytest.raises(EngramError, match="'soft_label'"):
        FAMILY.examples(ClassifierModel(classifier.model.model), softly)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([[1.0], [1.0, 2.0]], "1, 2 numbers"),
        ([[1.0, 2.0], None], "0, 2 numbers"),
        ([[1.0, 2.0], [float("nan"), 1.0]], "not finite"),
        (["a", "b"], "not lists of numbers"),
    ],
)
def test_what_is_no_soft_label_is_refused(rows, told):
    split = Split.of("x", features=np.eye(2, dtype=np.float32), label=[0, 1], **{SOFT: rows})
    with pytest.raises(EngramError, match=told):
        soft_labels_of(split)


def test_a_model_of_other_outputs_refuses_them(softly, classifier):
    wrong = with_soft_labels(softly, np.ones((12, 2)))
    with pytest.raises(EngramError, match="2 numbers a record, but the model gives 3"):
        soft_labels_of(wrong, 3)


def test_examples_without_them_are_as_before(arrays, classifier):
    network = classifier.model.model
    features, labels = np.asarray(arrays.matrix("features"), np.float32), arrays.matrix("label")
    plain = ArrayExamples(network, features, np.asarray(labels, np.int64))
    losses = plain.nll(np.arange(12)).detach().double().numpy()
    assert losses == pytest.approx(FAMILY.losses(classifier.model, arrays), abs=1e-5)


def test_features_are_standardised_as_the_split_says(arrays):
    features = np.asarray(arrays.matrix("features"), np.float32)
    assert np.array_equal(standards_of(arrays, features)[0], features.mean(0))
    stated = Split.of(
        "x", features=features, shared={"standards": np.array([[1.0] * 4, [2.0] * 4])}
    )
    mean, spread = standards_of(stated, features)
    assert (set(mean), set(spread)) == ({1.0}, {2.0})


def test_records_of_nothing_but_lists_of_one_size_have_digests():
    split = Split.of("x", features=np.arange(6, dtype=np.float32).reshape(3, 2))
    assert len(set(split.ids)) == 3

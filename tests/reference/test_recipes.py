"""Recipes against plain loops and against scikit-learn, and what they refuse."""

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from engram.core import EngramError, Split, Target, stream
from engram.families import causal_lm, classifier, estimator
from engram.methods.recipes.finetune_lm import FinetuneLm
from engram.methods.recipes.fit_estimator import FitEstimator
from engram.methods.recipes.pretrain_lm import PretrainLm
from engram.methods.recipes.train_classifier import TrainClassifier
from engram.parts.labelled import features_of

SMALL = {"vocabulary": 300, "layers": 1, "width": 16, "heads": 2, "context": 32}
TEXTS = [f"Patient {i} of ward {'ABCD'[i % 4]} came on day {i * 37 % 29}." for i in range(16)]


@dataclass(frozen=True)
class FakeRun:
    """Random streams, a scratch folder and named targets; asked for answers, it fails."""

    scratch: Path
    seed: int = 0
    device: str = "cpu"
    others: dict = field(default_factory=dict)
    logged: list = field(default_factory=list)

    def stream(self, *path):
        return stream(self.seed, *path)

    def log(self, **entry):
        self.logged.append(entry)

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
    lm = causal_lm.tiny(TEXTS, seed=3, **SMALL)
    return Target("base", "causal-lm", lm, causal_lm.FAMILY.fingerprint(lm))


def digits(n=200):
    from sklearn.datasets import load_digits

    data = load_digits()
    return Split.of("digits", features=data.data[:n].astype(np.float32), label=data.target[:n])


def weights(lm):
    return {name: p.detach().clone() for name, p in lm.model.named_parameters()}


def test_finetuning_equals_a_plain_loop(texts, base, tmp_path):
    """Written out: one batch of all records, plain AdamW, transformers' own loss."""
    recipe = FinetuneLm(
        base="base", epochs=3, batch_size=16, learning_rate=1e-3, schedule="constant", warmup=0.0
    )
    draft = recipe(texts, FakeRun(tmp_path, others={"base": base}))
    model = copy.deepcopy(base.model.model).train()
    tokenizer = base.model.tokenizer
    ids = [[*tokenizer(t)["input_ids"], tokenizer.eos_token_id] for t in TEXTS]
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}],
        lr=1e-3,
    )
    for _ in range(3):
        total, count = 0.0, 0
        for sequence in ids:
            tokens = torch.tensor([sequence])
            total = total + model(tokens, labels=tokens).loss * (len(sequence) - 1)
            count += len(sequence) - 1
        optimiser.zero_grad()
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    for name, expected in model.named_parameters():
        found = draft.model.model.get_parameter(name)
        torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-5)
    assert len(draft.trace) == 3


def test_finetuning_learns_and_leaves_its_base_alone(texts, base, tmp_path):
    before = base.fingerprint
    run = FakeRun(tmp_path, others={"base": base})
    draft = FinetuneLm(base="base", epochs=15, batch_size=4, learning_rate=3e-3)(texts, run)
    assert causal_lm.FAMILY.fingerprint(base.model) == before
    assert not base.model.model.training
    old, new = (causal_lm.FAMILY.losses(m, texts).mean() for m in (base.model, draft.model))
    assert new < 0.7 * old
    assert [e["step"] for e in draft.trace] == list(range(60))
    assert draft.trace[-1]["epoch"] == 15
    assert run.logged == list(draft.trace)


def test_a_half_precision_base_is_trained_in_float32_and_saved_as_it_was(texts, base, tmp_path):
    """In bfloat16 itself, steps this small would be rounded away."""
    base.model.model.bfloat16()
    run = FakeRun(tmp_path, others={"base": base})
    draft = FinetuneLm(base="base", epochs=40, batch_size=16, learning_rate=2e-5)(texts, run)
    assert draft.model.model.dtype == torch.bfloat16
    assert draft.trace[-1]["loss"] < draft.trace[0]["loss"]
    same = [torch.equal(p, weights(base.model)[n]) for n, p in draft.model.model.named_parameters()]
    assert not all(same)


def test_pretraining_learns_and_depends_on_the_seed_alone(texts, tmp_path):
    recipe = PretrainLm(**SMALL, epochs=15, batch_size=4, learning_rate=3e-3)
    one = recipe(texts, FakeRun(tmp_path / "1"))
    two = recipe(texts, FakeRun(tmp_path / "2"))
    other = recipe(texts, FakeRun(tmp_path / "3", seed=1))
    prints = [causal_lm.FAMILY.fingerprint(d.model) for d in (one, two, other)]
    assert prints[0] == prints[1] != prints[2]
    assert one.trace[-1]["loss"] < 0.7 * one.trace[0]["loss"]
    assert one.trace[0]["loss"] == pytest.approx(math.log(300), rel=0.05)  # knows nothing yet


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_a_classifier_learns_digits(architecture, tmp_path):
    data = digits()
    recipe = TrainClassifier(architecture=architecture, width=16, epochs=25, learning_rate=1e-2)
    draft = recipe(data, FakeRun(tmp_path))
    accuracy = classifier.FAMILY.quality(draft.model, data, stream(0))[0]
    assert accuracy.value > 0.9
    features = features_of(data)
    np.testing.assert_allclose(draft.model.model.mean.numpy(), features.mean(0), rtol=1e-5)
    constant = features.std(0) == 0
    assert constant.any()
    assert (draft.model.model.scale.numpy()[constant] == 1).all()


@pytest.mark.parametrize(
    ("name", "parameters", "sklearn_name"),
    [
        ("logistic-regression", ("C=0.5",), "linear_model.LogisticRegression"),
        ("gaussian-naive-bayes", (), "naive_bayes.GaussianNB"),
        ("nearest-neighbours", ("n_neighbors=4",), "neighbors.KNeighborsClassifier"),
        (
            "nearest-neighbours",
            ("n_neighbors=3", "weights=distance"),
            "neighbors.KNeighborsClassifier",
        ),
        ("decision-tree", ("max_depth=5",), "tree.DecisionTreeClassifier"),
        ("random-forest", ("n_estimators=9",), "ensemble.RandomForestClassifier"),
    ],
)
@pytest.mark.parametrize("classes", [2, 10])
def test_stored_estimators_answer_as_scikit_learn_does(
    name, parameters, sklearn_name, classes, tmp_path
):
    from importlib import import_module

    data = digits(400)
    data = data.where(data.matrix("label") < classes)
    run = FakeRun(tmp_path)
    recipe = FitEstimator(name, parameters)
    draft = recipe(data, run)
    estimator.FAMILY.save(draft.model, tmp_path / "out")
    stored = estimator.FAMILY.load(tmp_path / "out")
    module, _, attribute = sklearn_name.partition(".")
    given = recipe.settings()
    if name == "logistic-regression":
        given["max_iter"] = 1000
    if name in ("decision-tree", "random-forest"):
        given["random_state"] = int(run.stream("fit").integers(2**31))
    oracle = getattr(import_module(f"sklearn.{module}"), attribute)(**given)
    oracle.fit(features_of(data).astype(np.float64), data.matrix("label"))
    new = digits(900)
    new = new.where(new.matrix("label") < classes)
    expected = np.clip(
        oracle.predict_proba(features_of(new).astype(np.float64)), estimator.LEAST, 1
    )
    found = np.exp(estimator.FAMILY.logits(stored, new))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
    assert draft.trace[0]["loss"] == pytest.approx(estimator.FAMILY.losses(stored, data).mean())


def test_what_scikit_learn_warns_of_is_logged(tmp_path):
    run = FakeRun(tmp_path)
    FitEstimator("logistic-regression", ("max_iter=1",))(digits(), run)
    assert any("converge" in str(entry.get("warning", "")) for entry in run.logged)


@pytest.mark.parametrize(
    ("recipe", "data", "fact"),
    [
        (FinetuneLm(), Split.of("t", text=TEXTS), "no base model"),
        (FinetuneLm(base="other"), Split.of("t", text=TEXTS), "is a classifier, but must be"),
        (FinetuneLm(base="base"), Split.of("t", text=np.array([], dtype=str)), "no records"),
        (FinetuneLm(base="base"), Split.of("t", words=TEXTS), "no column 'text'"),
        (PretrainLm(**SMALL), Split.of("t", text=np.array([], dtype=str)), "no records"),
        (TrainClassifier(), digits().take([]), "no records"),
        (TrainClassifier(), Split.of("t", text=TEXTS), "no column 'label'"),
        (TrainClassifier(shape=(3, 4, 4)), digits(), "holds 48 numbers, but records have 64"),
        (FitEstimator(), digits().take([]), "no records"),
        (FitEstimator(), Split.of("t", text=TEXTS), "no column 'label'"),
    ],
)
def test_data_and_bases_that_cannot_be_used_are_refused(recipe, data, fact, base, tmp_path):
    other = Target("other", "classifier", None, "x")
    run = FakeRun(tmp_path, others={"base": base, "other": other})
    with pytest.raises(EngramError, match=fact) as caught:
        recipe(data, run)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (lambda: PretrainLm(width=30, heads=4), "width is 30, which 4 heads"),
        (lambda: PretrainLm(vocabulary=100), "vocabulary is 100"),
        (lambda: PretrainLm(dropout=1.0), "dropout is 1.0"),
        (lambda: PretrainLm(epochs=0), "epochs is 0"),
        (lambda: FinetuneLm(batch_size=0), "batch_size is 0"),
        (lambda: FinetuneLm(learning_rate=-1.0), "learning_rate is -1.0"),
        (lambda: TrainClassifier(architecture="cnn", shape=(3, 4)), "cnn needs images"),
        (lambda: TrainClassifier(layers=0), "layers is 0"),
        (lambda: FitEstimator("svm"), "no estimator called 'svm'"),
        (lambda: FitEstimator(parameters=("C",)), "not of the form"),
    ],
)
def test_bad_fields_are_refused(make, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        make()
    assert caught.value.hint


def test_divergence_names_the_remedy(texts, base, tmp_path):
    with torch.no_grad():
        base.model.model.transformer.wte.weight[5] = math.nan
    run = FakeRun(tmp_path, others={"base": base})
    with pytest.raises(EngramError, match="diverged") as caught:
        FinetuneLm(base="base")(texts, run)
    assert "learning-rate" in caught.value.hint

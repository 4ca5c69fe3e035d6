"""`dataset-inference`: sees a set that was used, and refuses to see one that merely differs."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from engram.core import EngramError, Split, Target, TokenSignals, stream
from engram.families import find
from engram.methods.attacks.loss import Loss
from engram.methods.attacks.min_k import MinK
from engram.methods.attacks.min_k_plus_plus import MinKPlusPlus
from engram.methods.attacks.zlib import Zlib
from engram.methods.measures import dataset_inference
from engram.methods.measures.dataset_inference import CONTROL, NAME, DatasetInference
from engram.methods.recipes.train_classifier import TrainClassifier
from engram.parts.chance_units import halves
from engram.parts.fair_sides import told_apart
from engram.signals.membership_features import membership_features, of_logits

WORDS = ("river", "stone", "lamp", "winter", "letter", "garden", "window", "paper", "salt", "bell")


@dataclass(frozen=True)
class MadeUpRun:
    """A language model whose tokens are likelier, by `effect`, where the record was used.

    Only the least likely fifth of the tokens shows it: the mean loss alone would hardly.
    """

    scratch: Path = Path()
    effect: float = 0.0
    used: frozenset = frozenset()
    seed: int = 0
    device: str = "cpu"
    others: dict = field(default_factory=dict)

    def stream(self, *path):
        return stream(self.seed, *path)

    def tokens(self, target, split):
        pieces = [self.token_logprobs(i) for i in split.ids]
        offsets = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
        logprob = np.concatenate([np.zeros(0), *pieces])
        return TokenSignals(split.ids, offsets, np.zeros(len(logprob), np.int64), logprob)

    def token_logprobs(self, record):
        drawn = -stream(0, "tokens", record).exponential(2.0, size=40)
        if record in self.used:
            drawn[np.argsort(drawn)[:8]] += self.effect
        return drawn

    def losses(self, target, split):
        return find(target.family).losses(target.model, split)

    def logits(self, target, split):
        return find(target.family).logits(target.model, split)

    def records(self, where, target=None):
        return self.others[where]

    def log(self, **entry):
        pass

    def progress(self, done, total, what):
        pass

    def computed(self, *_):
        raise NotImplementedError

    fit = shadows = retrained = sampler = target = computed


LM = Target("made up", "causal-lm", None, "made-up")


def texts(name, n, seed=0, words=WORDS):
    rng = stream(seed, "texts", name)
    made = [" ".join(rng.choice(words, 12)) for i in range(n)]
    return Split.of(name, text=made, ids=[f"{seed} {name} {i}" for i in range(n)])


def sides(n=120, seed=0):
    return {"members": texts("members", n, seed), "outsiders": texts("outsiders", n, seed)}


def used(splits, effect, **more):
    return MadeUpRun(effect=effect, used=frozenset(splits["members"].ids), **more)


def test_a_used_set_is_found_and_an_unused_one_is_not():
    splits = sides()
    found, control = DatasetInference(permutations=999)(LM, splits, used(splits, 1.0))
    assert (found.name, control.name) == (NAME, CONTROL)
    assert found.value < 0.01
    assert found.low <= found.value <= found.high
    assert found.n == 120  # one half of either side is tested
    assert "look more like training data" in found.note
    assert control.value > 0.05
    not_used, _ = DatasetInference(permutations=999)(LM, splits, used(splits, 0.0))
    assert not_used.value > 0.05
    assert "no evidence" in not_used.note
    assert "does not show that it was not" in not_used.note


def test_false_alarms_are_as_rare_as_promised(monkeypatch):
    """P-values of unused sets, and those of the control, are uniform."""
    monkeypatch.setattr(dataset_inference, "told_apart", lambda one, other, rng: ("", ""))
    values = []
    for seed in range(50):
        splits = sides(40, seed)
        values.append([f.value for f in DatasetInference(99)(LM, splits, used(splits, 0.0))])
    for column in np.array(values).T:
        for alpha in (0.1, 0.5):
            error = 3 * np.sqrt(alpha * (1 - alpha) / 50)
            assert abs(np.mean(column <= alpha) - alpha) <= error + 0.01


def test_no_claim_is_made_where_the_records_differ_without_the_model():
    splits = {
        "members": texts("members", 60),
        "outsiders": texts("outsiders", 60, words=("quite", "other", "words", "here")),
    }
    found, control = DatasetInference(permutations=99)(LM, splits, used(splits, 2.0))
    assert found.value is None
    assert "no claim can be made" in found.note
    assert "told apart" in found.note
    assert control.value is not None


def test_a_split_that_could_not_be_audited_is_said(monkeypatch):
    monkeypatch.setattr(dataset_inference, "told_apart", lambda *_: ("", "could not be audited"))
    splits = sides(40)
    found, _ = DatasetInference(permutations=99)(LM, splits, used(splits, 2.0))
    assert "could not be audited" in found.note


def test_a_classifier_that_learnt_by_heart(tmp_path):
    rng = stream(0, "arrays")
    features = rng.normal(size=(160, 16)).astype(np.float32)
    data = Split.of("noise", features=features, label=rng.integers(0, 2, 160))
    splits = {"members": data.take(range(0, 160, 2)), "outsiders": data.take(range(1, 160, 2))}
    run = MadeUpRun(tmp_path)
    draft = TrainClassifier(epochs=40, learning_rate=5e-3)(splits["members"], run)
    target = Target("by heart", "classifier", draft.model, "by-heart")
    found, _ = DatasetInference(permutations=999)(target, splits, run)
    assert found.value <= 0.002
    untrained = TrainClassifier().start(data, run)
    blank = Target("blank", "classifier", type(draft.model)(untrained), "blank")
    found, _ = DatasetInference(permutations=999)(blank, splits, run)
    assert found.value > 0.01


def test_the_order_of_records_does_not_matter():
    splits = sides(40)
    turned = {name: side.reversed() for name, side in splits.items()}
    measure, run = DatasetInference(permutations=99), used(splits, 0.5)
    # The blind comparison resamples by row, so only the numbers themselves must agree.
    one, other = measure(LM, splits, run), measure(LM, turned, run)
    assert [f.value for f in one] == [f.value for f in other]


@pytest.mark.parametrize(
    ("n", "fact"),
    [((0, 30), "no members"), ((30, 0), "no outsiders"), ((15, 90), "has 15 records")],
)
def test_too_few_records_are_said(n, fact):
    splits = {"members": texts("members", n[0]), "outsiders": texts("outsiders", n[1])}
    (found,) = DatasetInference()(LM, {k: v for k, v in splits.items() if len(v)}, MadeUpRun())
    assert found.value is None
    assert fact in found.note


def test_a_control_needs_more_held_out_records_than_the_test():
    splits = {"members": texts("members", 40), "outsiders": texts("outsiders", 20)}
    found, control = DatasetInference(permutations=99)(LM, splits, used(splits, 1.0))
    assert found.value is not None
    assert control.value is None
    assert "32 held-out records" in control.note


def test_halves_are_of_each_side_and_keep_owners_together():
    cluster = np.repeat(np.arange(10), 3)
    side = cluster < 6
    chosen = halves(cluster, side, stream(0))
    assert len(np.unique(cluster[chosen])) == 5
    assert len(np.unique(cluster[chosen & side])) == 3
    assert not set(cluster[chosen]) & set(cluster[~chosen])


def test_signals_equal_those_of_the_attacks(target, split, run):
    names, found = membership_features(target, split, run)
    columns = dict(zip(names, found.T, strict=True))
    attacks = {
        "likelihood": Loss(),
        "zlib": Zlib(),
        "min-k 0.2": MinK(0.2),
        "min-k-plus-plus 0.1": MinKPlusPlus(0.1),
    }
    for name, attack in attacks.items():
        expected = attack(target, split, run).values
        np.testing.assert_allclose(columns[name], expected, rtol=1e-9)
    assert found.shape == (len(split), 12)


def test_signals_of_a_classifier_by_hand():
    """Probabilities 1/2, 1/4, 1/4: ln(1/2), ln 2, and -(1.5 ln 2)."""
    logits = np.log([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])
    found = of_logits(logits, np.array([0, 0]))
    ln2 = np.log(2)
    np.testing.assert_allclose(found["likelihood"], [-ln2, -2 * ln2])
    np.testing.assert_allclose(found["margin"], [ln2, -ln2])
    np.testing.assert_allclose(found["certainty"], [-1.5 * ln2, -1.5 * ln2])
    assert list(of_logits(np.zeros((2, 1)), np.array([0, 0]))) == ["likelihood"]


def test_sides_are_compared_by_what_they_have_in_common():
    rng = stream(0, "compare")
    text = texts("a", 40)
    assert told_apart(text, texts("b", 40), rng)[0] == ""
    arrays = Split.of("x", features=rng.normal(size=(40, 3)), label=np.zeros(40, int))
    far = Split.of("y", features=rng.normal(size=(40, 3)) + 9, label=np.zeros(40, int))
    assert "told apart" in told_apart(arrays, far, rng)[0]
    other = Split.of("z", number=np.arange(40))
    assert "could not be audited" in told_apart(other, Split.of("w", number=[99]), rng)[1]


@pytest.mark.parametrize(
    ("fields", "fact"),
    [
        ({"permutations": 10}, "permutations is 10"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"alpha": 1.0}, "alpha is 1.0"),
    ],
)
def test_fields_that_cannot_work_are_refused(fields, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        DatasetInference(**fields)
    assert caught.value.hint

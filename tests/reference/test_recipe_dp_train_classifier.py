"""`dp-train-classifier` against the paper's algorithm written out, and against its promise."""

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from engram.core import EngramError, Split, stream, torch_stream
from engram.families.classifier import FAMILY, ClassifierModel
from engram.methods.recipes.dp_train_classifier import DpTrainClassifier
from engram.parts import dp_sgd
from engram.parts.dp_sgd import Budget, noise_multiplier, noisy_mean, poisson_lot, secret_of

NOISE = 1.25
SMALL = {"width": 6, "layers": 1, "epochs": 2, "batch_size": 8, "learning_rate": 0.01}


@dataclass(frozen=True)
class FakeRun:
    """Random streams and a scratch folder; asked for anything else, it fails."""

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


def blobs(n=40, seed=0, spread=0.4):
    """Two classes around (1, 1, 1) and (-1, -1, -1)."""
    rng = stream(seed, "blobs")
    label = np.arange(n) % 2
    centre = np.where(label[:, None] == 1, 1.0, -1.0)
    features = (centre + spread * rng.normal(size=(n, 3))).astype(np.float32)
    return Split.of("blobs", features=features, label=label)


@pytest.fixture
def known_noise(monkeypatch):
    """A noise multiplier that needs no accountant, so these tests run without opacus."""
    monkeypatch.setattr(dp_sgd, "noise_multiplier", lambda budget, rate, steps: NOISE)
    monkeypatch.setattr(dp_sgd, "epsilon_of", lambda budget, noise, rate, steps: budget.epsilon)


def weights(draft):
    return {name: p.detach().clone() for name, p in draft.model.model.named_parameters()}


def test_equals_the_algorithm_written_out(known_noise, tmp_path):
    """Sample a lot, clip each gradient, add noise, divide by L, descend: a record at a time."""
    data, recipe = blobs(), DpTrainClassifier(**SMALL, clip=0.3)
    draft = recipe(data, FakeRun(tmp_path))
    network = recipe.untrained(data, FakeRun(tmp_path))
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW([*matrices, *vectors], lr=0.01, weight_decay=0.0)
    features, labels = data.matrix("features"), data.matrix("label")
    clipped = 0
    for step in range(10):  # two epochs of ceil(40 / 8) steps
        coins = stream(0, "lot", step).random(40)
        total = [torch.zeros_like(p) for p in network.parameters()]
        for row in np.flatnonzero(coins < 8 / 40):
            network.zero_grad()
            logits = network(torch.tensor(features[row : row + 1]))
            nn.functional.cross_entropy(logits, torch.tensor(labels[row : row + 1])).backward()
            norm = math.sqrt(sum(float((p.grad**2).sum()) for p in network.parameters()))
            clipped += norm > 0.3
            for part, p in zip(total, network.parameters(), strict=True):
                part += p.grad / max(1, norm / 0.3)
        drawn = torch_stream(0, "noise", step)
        for part, p in zip(total, network.parameters(), strict=True):
            p.grad = (part + NOISE * 0.3 * torch.randn(p.shape, generator=drawn)) / 8
        optimiser.step()
    assert clipped > 20
    for name, expected in network.named_parameters():
        torch.testing.assert_close(weights(draft)[name], expected, rtol=1e-4, atol=1e-5)


def test_the_trace_tells_the_promise_and_no_loss(known_noise, tmp_path):
    run = FakeRun(tmp_path)
    draft = DpTrainClassifier(**SMALL, epsilon=3.0, delta=1e-4)(blobs(), run)
    assert run.logged == list(draft.trace)
    assert len(draft.trace) == 10
    assert draft.trace[-1] == {
        "step": 9, "epoch": 2.0, "lr": 0.01, "noise": NOISE, "epsilon": 3.0, "delta": 1e-4,
        "secret": 0,
    }  # fmt: skip


def test_nothing_in_the_network_is_measured_on_the_records(known_noise, tmp_path):
    recipe = DpTrainClassifier(**SMALL, centre=2.0, spread=4.0)
    draft = recipe(blobs(), FakeRun(tmp_path))
    assert (draft.model.model.mean == 2.0).all()
    assert (draft.model.model.scale == 4.0).all()
    FAMILY.save(draft.model, tmp_path / "out")
    stored = FAMILY.load(tmp_path / "out")
    np.testing.assert_array_equal(
        FAMILY.logits(stored, blobs()), FAMILY.logits(draft.model, blobs())
    )


def test_a_record_changes_the_noiseless_sum_by_at_most_the_clipping_norm(tmp_path):
    """The sensitivity on which the whole promise rests, for an absurd record too."""
    from engram.methods.recipes.dp_train_classifier import clipped_gradients

    data, recipe = blobs(), DpTrainClassifier(**SMALL)
    network = recipe.untrained(data, FakeRun(tmp_path))
    features = np.full((1, 3), 1e4, np.float32)
    least = int(network(torch.tensor(features)).argmin())  # as wrong as can be
    wild = Split.of("wild", features=features, label=np.array([least]))
    examples = FAMILY.examples(ClassifierModel(network), data.joined(wild))
    whole, without = (clipped_gradients(examples, np.arange(n), 0.5) for n in (41, 40))
    moved = math.sqrt(sum(float(((whole[n] - without[n]) ** 2).sum()) for n in whole))
    assert moved == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("secret", [False, True])
@pytest.mark.parametrize("stop", [1, 6])
def test_resumes_bit_for_bit(known_noise, tmp_path, monkeypatch, stop, secret):
    monkeypatch.setattr("engram.parts.training.PAUSE", 0.0)
    monkeypatch.setattr("engram.parts.training.SHARE", math.inf)
    monkeypatch.setattr(dp_sgd.secrets, "randbits", lambda bits: 12345)
    recipe = DpTrainClassifier(**SMALL, secret_noise=secret)
    whole = recipe(blobs(), FakeRun(tmp_path / "whole"))

    class KilledError(Exception):
        pass

    @dataclass(frozen=True)
    class Dying(FakeRun):
        def progress(self, done, total, what):
            if done == stop:
                raise KilledError

    with pytest.raises(KilledError):
        recipe(blobs(), Dying(tmp_path / "killed"))
    monkeypatch.setattr(dp_sgd.secrets, "randbits", lambda bits: 999)  # not asked again
    resumed = recipe(blobs(), FakeRun(tmp_path / "killed"))
    for name, expected in weights(whole).items():
        assert torch.equal(weights(resumed)[name], expected)
    assert resumed.trace == whole.trace


def test_secret_noise_does_not_follow_from_the_seed(known_noise, tmp_path):
    recipe = DpTrainClassifier(**SMALL, secret_noise=True)
    one, two = (recipe(blobs(), FakeRun(tmp_path / name)) for name in "ab")
    assert not torch.equal(
        *(torch.cat([p.flatten() for p in weights(d).values()]) for d in (one, two))
    )
    path = tmp_path / "a" / dp_sgd.SECRET
    assert path.stat().st_mode & 0o077 == 0  # nobody else may read it
    assert path.read_text() not in str(one.trace)
    assert secret_of(FakeRun(tmp_path / "a")) == int(path.read_text())
    path.write_text("not a number")
    with pytest.raises(EngramError, match="does not hold the number"):
        secret_of(FakeRun(tmp_path / "a"))


def test_an_empty_lot_is_noise_alone(known_noise, tmp_path, monkeypatch):
    monkeypatch.setattr(dp_sgd, "poisson_lot", lambda n, rate, rng: np.array([], np.int64))
    draft = DpTrainClassifier(**SMALL)(blobs(), FakeRun(tmp_path))
    assert all(torch.isfinite(p).all() for p in weights(draft).values())


def test_noise_has_the_promised_spread_and_is_divided_by_the_expected_lot():
    found = noisy_mean({"w": torch.ones(20_000)}, 3.0, 10, torch_stream(0, "t"))["w"]
    assert float(found.mean()) == pytest.approx(0.1, abs=0.01)
    assert float(found.std()) == pytest.approx(0.3, rel=0.02)


def test_lots_hold_each_record_by_its_own_coin():
    lots = [poisson_lot(50, 0.2, stream(0, "t", k)) for k in range(2000)]
    sizes = np.array([len(lot) for lot in lots])
    assert sizes.mean() == pytest.approx(10, abs=0.3)
    assert sizes.var() == pytest.approx(50 * 0.2 * 0.8, rel=0.1)  # a fixed size would have none
    counts = np.bincount(np.concatenate(lots), minlength=50) / 2000
    assert np.abs(counts - 0.2).max() < 0.05


def test_a_lot_cannot_be_larger_than_the_data(known_noise, tmp_path):
    recipe = DpTrainClassifier(width=4, layers=1, epochs=3, batch_size=500)
    assert [entry["epoch"] for entry in recipe(blobs(), FakeRun(tmp_path)).trace] == [1, 2, 3]


class TestAccountant:
    """What opacus says of the noise."""

    @pytest.fixture(autouse=True)
    def opacus(self):
        pytest.importorskip("opacus", reason="opacus is not installed (pip install 'engram[dp]')")

    def test_one_full_step_is_the_gaussian_mechanism(self):
        """Without sampling, one step at epsilon 1, delta 1e-5 needs sigma 3.73 (Balle and Wang,
        "Improving the Gaussian Mechanism", 2018, solved for by their Theorem 8)."""
        from scipy.optimize import brentq
        from scipy.stats import norm

        def delta(sigma):
            a, b = 1 / (2 * sigma), sigma
            return norm.cdf(a - b) - math.e * norm.cdf(-a - b)

        exact = brentq(lambda sigma: delta(sigma) - 1e-5, 1, 10)
        assert exact == pytest.approx(3.73, abs=0.005)
        found = noise_multiplier(Budget(1.0, 1e-5, accountant="prv"), 1.0, 1)
        assert exact <= found <= 1.03 * exact
        assert exact <= noise_multiplier(Budget(1.0, 1e-5, accountant="rdp"), 1.0, 1) <= 1.3 * exact

    def test_more_steps_and_less_epsilon_need_more_noise(self):
        budget = Budget(2.0, 1e-5, accountant="rdp")
        few, many = (noise_multiplier(budget, 0.1, steps) for steps in (10, 100))
        assert few < many < noise_multiplier(Budget(0.5, 1e-5, accountant="rdp"), 0.1, 100)

    def test_learns_at_a_generous_epsilon(self, tmp_path):
        data, run = blobs(400), FakeRun(tmp_path)
        recipe = DpTrainClassifier(
            epsilon=8.0, delta=1e-3, accountant="rdp", width=8, layers=1, epochs=10,
            learning_rate=0.02,
        )  # fmt: skip
        draft = recipe(data, run)
        new = blobs(200, seed=1)
        accuracy = (FAMILY.logits(draft.model, new).argmax(1) == new.matrix("label")).mean()
        assert accuracy > 0.95

    def test_an_epsilon_beyond_reach_is_refused(self):
        with pytest.raises(EngramError, match="no noise was found"):
            noise_multiplier(Budget(1e-9, 1e-5, accountant="rdp"), 1.0, 10**6)


def test_without_opacus_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "opacus.accountants.utils", None)
    with pytest.raises(EngramError, match="needs opacus") as caught:
        DpTrainClassifier()(blobs(), FakeRun(tmp_path))
    assert "engram[dp]" in caught.value.hint


def test_the_catalogue_names_the_extra():
    from engram.catalog import find

    assert find("recipes", "dp-train-classifier").extra == "dp"


@pytest.mark.parametrize(
    ("fields", "fact"),
    [
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"epsilon": math.inf}, "epsilon is inf"),
        ({"delta": 0.0}, "delta is 0.0"),
        ({"delta": 1.0}, "delta is 1.0"),
        ({"clip": 0.0}, "clipping norm is 0.0"),
        ({"spread": 0.0}, "spread is 0.0"),
        ({"centre": math.nan}, "centre is nan"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"classes": -1}, "classes is -1"),
        ({"architecture": "cnn", "shape": (3,)}, "cnn needs images"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
    ],
)
def test_fields_that_cannot_work_are_refused(fields, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        DpTrainClassifier(**fields)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("fields", "data", "fact"),
    [
        ({}, Split.of("t", text=["a"]), "no column 'label'"),
        ({}, blobs().take([]), "no records"),
        ({"delta": 0.05}, blobs(), "delta is 0.05 for 40 records"),
        ({"classes": 1}, blobs(), "has the label 1, but the model knows 1 classes"),
        ({"shape": (1, 2, 2)}, blobs(), "holds 4 numbers, but records have 3"),
        ({"architecture": "cnn"}, blobs(), "make no square image"),
        ({"learning_rate": 1e38}, blobs(), "training diverged"),
    ],
)
def test_data_that_cannot_be_used_is_refused(known_noise, fields, data, fact, tmp_path):
    with pytest.raises(EngramError, match=fact) as caught:
        DpTrainClassifier(**{**SMALL, **fields})(data, FakeRun(tmp_path))
    assert caught.value.hint

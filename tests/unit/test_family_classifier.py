"""Neural classifiers: networks by name, saving without code, losses and logits."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engram import families
from engram.core import EngramError, Split, stream, torch_seeded
from engram.families.classifier import FAMILY, ClassifierModel
from engram.parts.labelled import features_of
from engram.parts.networks import Layout, Network


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    return Split.of(
        "points",
        features=rng.normal(size=(40, 36)).astype(np.float32),
        label=rng.integers(0, 3, 40),
        owners=[f"o{i // 4}" for i in range(40)],
    )


def made(architecture="mlp", shape=(36,), seed=0):
    with torch_seeded(seed, "tests"):
        network = Layout(architecture, shape, 3, width=8, layers=2).build()
        network.mean.normal_()
        network.scale.uniform_(0.5, 2)
    return ClassifierModel(network.eval())


MODELS = {"mlp": lambda: made(), "cnn": lambda: made("cnn", (1, 6, 6))}
models = pytest.mark.parametrize("model", [pytest.param(m(), id=n) for n, m in MODELS.items()])


def test_it_is_a_family():
    assert families.find("classifier") is FAMILY
    assert isinstance(FAMILY, families.Family)


@models
def test_saved_and_opened_again_it_is_the_same(model, split, tmp_path):
    FAMILY.save(model, tmp_path)
    again = FAMILY.load(tmp_path)
    assert FAMILY.fingerprint(again) == FAMILY.fingerprint(model)
    assert FAMILY.describe(again) == FAMILY.describe(model)
    np.testing.assert_array_equal(FAMILY.logits(again, split), FAMILY.logits(model, split))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@models
def test_losses_are_cross_entropies_one_record_at_a_time(model, split):
    expected = []
    for row, label in zip(split.matrix("features"), split.matrix("label"), strict=True):
        with torch.no_grad():
            logits = model.model(torch.from_numpy(row[None].copy()))[0].double().numpy()
        expected.append(math.log(sum(math.exp(x) for x in logits)) - logits[label])
    np.testing.assert_allclose(FAMILY.losses(model, split), expected, rtol=1e-5)
    examples = FAMILY.examples(model, split)
    nll = examples.nll(np.arange(40)).detach().numpy()
    np.testing.assert_allclose(nll, expected, rtol=1e-5)
    few = FAMILY.logits(model, split, block=7)
    np.testing.assert_allclose(few, FAMILY.logits(model, split), rtol=1e-5, atol=1e-6)


def test_an_mlp_by_hand():
    network = Layout("mlp", (2,), 2, width=2, layers=1).build()
    network.mean.copy_(torch.tensor([1.0, 2.0]))
    network.scale.copy_(torch.tensor([2.0, 4.0]))
    state = network.state_dict()
    state["body.1.weight"] = torch.eye(2)
    state["body.1.bias"] = torch.zeros(2)
    state["body.3.weight"] = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    state["body.3.bias"] = torch.tensor([0.0, 0.5])
    network.load_state_dict(state)
    found = network(torch.tensor([[5.0, -2.0]]))[0]  # standardised: (2, -1)
    gelu = lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2  # noqa: E731
    a, b = gelu(2), gelu(-1)
    np.testing.assert_allclose(found.detach().numpy(), [a + b, a - b + 0.5], rtol=1e-6)


@models
def test_no_record_depends_on_the_others_in_its_batch(model, split):
    """So that gradients of single records exist: nothing is normalised over the batch."""
    network: Network = model.model.train()
    features = torch.from_numpy(features_of(split))
    together = network(features)[:3]
    torch.testing.assert_close(network(features[:3]), together)
    assert not any("BatchNorm" in type(m).__name__ for m in network.modules())


def test_quality_counts_hits(split):
    model = made()
    accuracy, loss = FAMILY.quality(model, split, stream(0))
    hits = np.mean(FAMILY.logits(model, split).argmax(1) == split.matrix("label"))
    assert accuracy.value == pytest.approx(hits)
    assert accuracy.low < hits < accuracy.high
    assert loss.value == pytest.approx(FAMILY.losses(model, split).mean())
    assert (accuracy.better, loss.better) == ("higher", "lower")


def test_neighbours_change_the_share_asked_for_to_values_close_by(split):
    before = features_of(split)
    near = FAMILY.perturb(split, 0.25, stream(0))
    after = features_of(near)
    assert near.ids == split.ids
    assert ((before != after).sum(1) <= 9).all()
    assert (before != after).mean() > 0.1
    assert all(set(after[:, j]) <= set(before[:, j]) for j in range(36))
    ranks = np.argsort(np.argsort(before, axis=0, kind="stable"), axis=0)
    for j in range(36):
        place = {v: r for v, r in zip(before[:, j], ranks[:, j], strict=True)}
        assert max(abs(place[v] - r) for v, r in zip(after[:, j], ranks[:, j], strict=True)) <= 2


def test_canaries_and_rendering(split):
    planted = FAMILY.canaries(5, stream(0), features=36, classes=3)
    FAMILY.check(planted)
    assert len(FAMILY.losses(made(), planted)) == 5
    assert len(set(planted.owners)) == 5
    assert planted.canaries == (True,) * 5
    text = FAMILY.render(split, 2)
    assert text.startswith(f"label {split.matrix('label')[2]}: ")
    assert text.endswith("and 24 more")


@pytest.mark.parametrize(
    ("columns", "fact"),
    [
        ({"features": [[1.0], [2.0]]}, "no column 'label'"),
        ({"label": [0, 1]}, "no column 'features'"),
        ({"features": [[1.0], [2.0]], "label": ["a", "b"]}, "not whole numbers"),
        ({"features": [[1.0], [2.0]], "label": [0, -1]}, "the label -1"),
        ({"features": [[1.0], [2.0]], "label": [0, None]}, "1 records without a label"),
        ({"features": [["x"], ["y"]], "label": [0, 1]}, "not numbers"),
        ({"features": [[1.0], [2.0, 3.0]], "label": [0, 1]}, r"unequal numbers .* \(1, 2\)"),
        ({"features": [[1.0], [math.nan]], "label": [0, 1]}, "not finite"),
        ({"features": ["a", "b"], "label": [0, 1]}, "not numbers"),
    ],
)
def test_records_of_another_kind_are_refused(columns, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        FAMILY.check(Split.of("bad", **columns))
    assert caught.value.hint


def test_lists_and_single_numbers_are_features():
    lists = Split.of("l", features=[[1.0, 2.0], [3.0, 4.0]], label=[0, 1])
    np.testing.assert_array_equal(features_of(lists), [[1, 2], [3, 4]])
    single = Split.of("s", features=[1.5, 2.5], label=[0, 1])
    np.testing.assert_array_equal(features_of(single), [[1.5], [2.5]])
    FAMILY.check(lists)
    FAMILY.check(single)


def test_records_that_do_not_fit_the_model_are_refused(split):
    with pytest.raises(EngramError, match="have 36 features, but the model takes 4"):
        FAMILY.losses(made(shape=(4,)), split)
    other = Split.of("o", features=np.zeros((2, 36), np.float32), label=[0, 3])
    with pytest.raises(EngramError, match="label 3, but the model knows 3 classes"):
        FAMILY.losses(made(), other)


def spoiled_config(**entries):
    def spoil(folder):
        record = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**record, **entries}))

    return spoil


def lose(name):
    return lambda folder: (folder / name).unlink()


def damage(folder):
    weights = load_file(folder / "model.safetensors")
    weights.pop("mean")
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "fact"),
    [
        (lose("config.json"), "no config.json"),
        (lose("model.safetensors"), "does not hold the weights"),
        (damage, "does not hold the weights"),
        (spoiled_config(kind="gpt2"), "does not describe a classifier"),
        (spoiled_config(extra=1), "does not describe a classifier"),
        (spoiled_config(architecture="os.system"), "no architecture 'os.system'"),
        (spoiled_config(width=10**9), "width is 1000000000"),
        (spoiled_config(width=16), "does not hold the weights"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(spoil, fact, tmp_path):
    FAMILY.save(made(), tmp_path)
    spoil(tmp_path)
    with pytest.raises(EngramError, match=fact) as caught:
        FAMILY.load(tmp_path)
    assert caught.value.hint

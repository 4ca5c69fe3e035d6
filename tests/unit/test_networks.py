"""Image layouts, residual networks, and modules of somebody else."""

import json
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from torch import nn

from engram.core import EngramError, Split, torch_seeded
from engram.families.classifier import FAMILY, ClassifierModel, wrapped
from engram.parts.networks import Layout, Residual
from engram.parts.per_record import per_record_gradients
from engram.parts.record_shape import layout_of_records


def images(n=6, shape=(5, 4, 3), stated=True):
    rng = np.random.default_rng(0)
    pixels = rng.random((n, *shape), np.float32)
    shared = {"image_shape": np.array(shape)} if stated else {}
    split = Split.of(
        "pictures", features=pixels.reshape(n, -1), label=rng.integers(0, 3, n), shared=shared
    )
    return pixels, split


def network(**fields):
    with torch_seeded(0, "tests"):
        return Layout(**{"architecture": "resnet", "shape": (3, 5, 4), "classes": 3, "width": 4,
                         **fields}).build().eval()  # fmt: skip


def test_colours_that_run_last_are_seen_as_channels():
    """The body is given (n, channels, height, width), pixel for pixel."""
    pixels, split = images()
    seen = []

    class Eye(nn.Module):
        def forward(self, batch):
            seen.append(batch.clone())
            return batch.flatten(1)[:, :3]

    layout = layout_of_records("resnet", (), split, 60, 3)
    assert (layout.shape, layout.colours_last) == ((3, 5, 4), True)
    model = wrapped(Eye(), "eye", layout.shape, 3, colours_last=True)
    FAMILY.logits(model, split)
    np.testing.assert_array_equal(seen[-1].numpy(), pixels.transpose(0, 3, 1, 2))


def test_what_shape_records_have():
    _, colour = images()
    _, grey = images(shape=(5, 4))
    _, one = images(shape=(5, 4, 1))
    _, plain = images(shape=(4, 4), stated=False)
    assert layout_of_records("cnn", (), grey, 20, 2).shape == (1, 5, 4)
    assert not layout_of_records("cnn", (), one, 20, 2).colours_last
    assert layout_of_records("cnn", (), plain, 16, 2).shape == (1, 4, 4)
    assert layout_of_records("mlp", (), colour, 60, 2).shape == (60,)
    assert layout_of_records("module:eye", (), colour, 60, 2).shape == (3, 5, 4)
    told = layout_of_records("cnn", (5, 4, 3), colour, 60, 2)
    assert (told.shape, told.colours_last) == ((5, 4, 3), False)
    with pytest.raises(EngramError, match=r"image_shape of split 'pictures' \(5, 4, 3\) holds 60"):
        layout_of_records("cnn", (), colour, 48, 2)
    with pytest.raises(EngramError, match="make no square image"):
        layout_of_records("resnet", (), plain, 15, 2)


def test_a_residual_block_by_hand():
    with torch_seeded(0, "tests"):
        block = Residual(2, 2, 1)
        wide = Residual(2, 4, 2)
    x = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0))

    def norm(values):  # one group for each of two channels
        mean = values.mean((2, 3), keepdim=True)
        return (values - mean) / torch.sqrt(values.var((2, 3), keepdim=True, unbiased=False) + 1e-5)

    conv = nn.functional.conv2d
    inner = norm(conv(x, block.first.weight, padding=1)).clamp(min=0)
    expected = (norm(conv(inner, block.second.weight, padding=1)) + x).clamp(min=0)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)
    assert wide(x).shape == (1, 4, 3, 3)


@pytest.mark.parametrize("architecture", ["cnn", "convnet", "resnet"])
@pytest.mark.parametrize("side", [1, 2, 3, 7, 32])
def test_images_of_every_size(architecture, side):
    net = network(architecture=architecture, shape=(1, side, side), layers=3)
    assert net(torch.zeros(2, side * side)).shape == (2, 3)


def test_per_record_gradients_of_a_residual_network_are_those_of_each_record_alone():
    net = network(colours_last=True)
    features, labels = torch.rand(4, 60), torch.tensor([0, 1, 2, 0])

    def loss(call, x, y):
        return nn.functional.cross_entropy(call(x), y)

    together, _ = per_record_gradients(net, loss, (features, labels))
    for row in range(4):
        net.zero_grad()
        nn.functional.cross_entropy(net(features[[row]]), labels[[row]]).backward()
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(together[name][row], parameter.grad, rtol=1e-3, atol=1e-5)


def test_a_layout_says_what_was_added_later_only_where_it_matters(tmp_path):
    """Folders and fingerprints from before there were colours stay what they were."""
    old = ClassifierModel(network(shape=(3, 5, 4)))
    assert set(old.layout.facts()) == {"architecture", "shape", "classes", "width", "layers"}
    FAMILY.save(old, tmp_path / "old")
    assert "colours_last" not in json.loads((tmp_path / "old" / "config.json").read_text())
    assert FAMILY.fingerprint(FAMILY.load(tmp_path / "old")) == FAMILY.fingerprint(old)
    new = ClassifierModel(network(colours_last=True))
    FAMILY.save(new, tmp_path / "new")
    assert FAMILY.load(tmp_path / "new").layout.colours_last
    assert FAMILY.fingerprint(new) != FAMILY.fingerprint(old)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"architecture": "resnett"}, "no architecture 'resnett'"),
        ({"shape": (60,)}, "a resnet needs images"),
        ({"layers": 20}, "end in more than"),
        ({"width": 2**15, "layers": 3}, "end in more than"),
        ({"architecture": "mlp", "shape": (60,), "colours_last": True}, "no colours"),
    ],
)
def test_layouts_that_are_none(fields, what):
    with pytest.raises(EngramError, match=what):
        network(**fields)


class Own(nn.Module):
    """A module that Engram does not know."""

    def __init__(self, width=60, classes=3):
        super().__init__()
        self.inner = nn.Linear(width, classes)

    def forward(self, records):
        return self.inner(records.flatten(1)).tanh()


@pytest.fixture
def own():
    with torch_seeded(0, "tests"):
        return wrapped(
            Own(), "own-net", (3, 5, 4), 3, mean=np.full(60, 0.5), scale=np.full(60, 2.0)
        )


def test_a_module_of_your_own_answers_everything(own):
    _, split = images()
    x = torch.from_numpy((split.matrix("features") - 0.5) / 2)
    with torch.no_grad():
        expected = own.model.body(x)
    found = FAMILY.logits(own, split)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert FAMILY.describe(own)["architecture"] == "module:own-net"
    assert FAMILY.losses(own, split).shape == (6,)
    rows = np.arange(6)
    np.testing.assert_allclose(
        FAMILY.examples(own, split).nll(rows).detach().numpy(), FAMILY.losses(own, split), rtol=1e-5
    )


def test_it_is_opened_with_its_builder_or_by_an_entry_point(own, tmp_path, monkeypatch):
    _, split = images()
    FAMILY.save(own, tmp_path)
    with pytest.raises(
        EngramError, match="module called 'own-net', whose code is not here"
    ) as seen:
        FAMILY.load(tmp_path)
    assert "builder=..." in seen.value.hint
    again = FAMILY.load(tmp_path, builder=lambda layout: Own())
    assert FAMILY.fingerprint(again) == FAMILY.fingerprint(own)
    np.testing.assert_array_equal(FAMILY.losses(again, split), FAMILY.losses(own, split))
    with pytest.raises(EngramError, match="does not hold the weights"):
        FAMILY.load(tmp_path, builder=lambda layout: nn.Linear(2, 2))
    named = EntryPoint("own-net", f"{__name__}:made", "engram.architectures")
    monkeypatch.setattr(EntryPoint, "load", lambda self: lambda layout: Own())
    monkeypatch.setattr("engram.parts.networks.entry_points", lambda group: [named])
    assert FAMILY.fingerprint(FAMILY.load(tmp_path)) == FAMILY.fingerprint(own)


@pytest.mark.parametrize(
    ("module", "name", "shape", "classes", "what"),
    [
        (Own(), "own net", (60,), 3, "the module is called 'own net'"),
        (Own(), "own", (61,), 3, "cannot be asked about records of shape"),
        (Own(), "own", (60,), 4, r"gives an array of shape \(2, 3\) for 2 records and 4 classes"),
    ],
)
def test_modules_that_do_not_fit(module, name, shape, classes, what):
    with pytest.raises(EngramError, match=what):
        wrapped(module, name, shape, classes)


def test_a_named_module_is_trained_like_any_other(run, monkeypatch):
    from engram.methods.recipes.train_classifier import TrainClassifier

    _, split = images()
    recipe = TrainClassifier(architecture="module:own-net", epochs=2)
    with pytest.raises(EngramError, match="whose code is not here"):
        recipe(split, run)
    named = EntryPoint("own-net", "nowhere:made", "engram.architectures")
    monkeypatch.setattr(EntryPoint, "load", lambda self: lambda layout: Own())
    monkeypatch.setattr("engram.parts.networks.entry_points", lambda group: [named])
    draft = recipe(split, run)
    assert (draft.model.layout.shape, draft.model.layout.colours_last) == ((3, 5, 4), True)
    assert draft.trace[-1]["epoch"] == 2
    assert np.isfinite(FAMILY.losses(draft.model, split)).all()


def test_a_convnet_tells_places_apart_and_a_cnn_hardly_does():
    """Moving a dot within a picture changes what the one sees far more than what the other does."""
    dots = torch.zeros(2, 8, 8)
    dots[0, 2, 2] = dots[1, 5, 5] = 1
    moved = {}
    for name in ("cnn", "convnet"):
        body = network(architecture=name, shape=(1, 8, 8), layers=2, width=8).body[:-1]
        seen = body(dots[:, None]).detach()
        moved[name] = float((seen[0] - seen[1]).norm() / seen.norm())
    assert moved["convnet"] > 2 * moved["cnn"]


def test_a_convnet_by_hand():
    net = network(architecture="convnet", shape=(1, 4, 4), layers=1, width=2)
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    conv, _, _, _, _, last = net.body
    raw = nn.functional.conv2d(x, conv.weight, conv.bias, padding=1)
    mean = raw.mean((2, 3), keepdim=True)  # of each channel of each picture
    spread = torch.sqrt(raw.var((2, 3), keepdim=True, unbiased=False) + 1e-5)
    active = ((raw - mean) / spread).clamp(min=0)
    halves = active.reshape(3, 2, 2, 2, 2, 2).mean((3, 5))
    expected = halves.flatten(1) @ last.weight.T + last.bias
    torch.testing.assert_close(net(x.flatten(1)), expected, rtol=1e-4, atol=1e-5)

"""Every generic attack on every family of classifiers: images, estimators, shards."""

import numpy as np
import pytest
from tests_engine import method

from engram import families
from engram.catalog import entries
from engram.core import Split
from engram.engine import EngineRun, audit, train_on
from engram.engine.battery import unsuited

QUICK = {"epochs": 1, "width": 4}
TARGETS = {
    "images": ("train-classifier", {**QUICK, "architecture": "resnet"}),
    "estimator": ("fit-estimator", {"estimator": "decision-tree"}),
    "shards": ("sisa", {**QUICK, "shards": 2, "slices": 1, "architecture": "cnn"}),
}
NEEDS = {"losses", "logits"}
ATTACKS = (
    "gradient-norm",
    "label-only",
    "lira",
    "loss",
    "posterior-attack",
    "quantile-regression",
    "reference",
    "rmia",
)


def pictures(n, seed):
    """Small colour pictures, colours last, as the named sets have them."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3
    pixels = np.clip(rng.normal(0.3 + 0.15 * label[:, None], 0.2, (n, 75)), 0, 1)
    shared = {"image_shape": np.array([5, 5, 3])}
    return Split.of("pictures", features=pixels.astype(np.float32), label=label, shared=shared)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Each kind of target, members and outsiders, and records for attacks that want some."""
    run = EngineRun(root=tmp_path_factory.mktemp("generic") / "runs")
    data, public = pictures(60, 0), pictures(60, 1)
    file = run.root.parent / "public.parquet"
    import pyarrow.parquet as pq

    pq.write_table(public.to_table(), file)
    trained = np.arange(60) // 3 % 2 == 0
    found = {
        name: train_on(method("recipes", recipe, **fields), data, trained, run, source="pictures")
        for name, (recipe, fields) in TARGETS.items()
    }
    others = {
        name: str(run.fit(method("recipes", recipe, **fields), public).folder)
        for name, (recipe, fields) in TARGETS.items()
    }
    return run, found, others, data.where(trained), data.where(~trained), str(file)


def test_these_are_all_the_generic_attacks():
    known = {name: entry.load() for name, entry in entries("attacks").items()}
    generic = {
        name for name, kind in known.items()
        if kind.needs <= NEEDS and "classifier" in getattr(kind, "families", {"classifier"})
    }  # fmt: skip
    assert generic == set(ATTACKS)


@pytest.mark.parametrize("name", TARGETS)
def test_an_audit_by_every_generic_attack(made, name):
    run, found, others, members, outsiders, public = made
    target = found[name]
    settings = {
        "lira": {"shadows": 4},
        "rmia": {"shadows": 4},
        "label-only": {"queries": 4},
        "quantile-regression": {"population": public},
        "reference": {"reference": others[name]},
    }
    asked = [
        a for a in ATTACKS if not unsuited(method("attacks", a, **settings.get(a, {})), target)
    ]
    assert set(ATTACKS) - set(asked) <= {"gradient-norm"}
    assert ("gradient-norm" in asked) == (target.family == "classifier")
    done = audit(
        target, members, outsiders, run, attacks=tuple(asked),
        settings={a: s for a, s in settings.items() if a in asked},
    )  # fmt: skip
    scored = {attack["name"] for attack in done.document["attacks"]}
    assert scored == set(asked), done.document["not_measured"]


@pytest.mark.parametrize("name", TARGETS)
def test_every_family_answers_everything(made, name):
    _, found, _, members, _, _ = made
    target, rng = found[name], np.random.default_rng(0)
    family = families.find(target.family)
    losses, logits = family.losses(target.model, members), family.logits(target.model, members)
    assert losses.shape == (len(members),)
    assert logits.shape == (len(members), 3)
    own = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    np.testing.assert_allclose(
        losses, -np.log(own[np.arange(len(members)), members.matrix("label")]), atol=1e-6
    )
    assert {f.name for f in family.quality(target.model, members, rng)} >= {"accuracy"}
    near = family.perturb(members, 0.3, rng)
    assert near.ids == members.ids
    assert np.isfinite(family.losses(target.model, near)).all()
    planted = family.canaries(4, rng, features=75, classes=3)
    assert np.isfinite(family.losses(target.model, planted)).all()
    assert "label" in family.render(members, 0)
    assert family.outcomes(target.model, members) == ("scored",) * len(members)


def test_the_report_shows_pictures(made):
    run, found, _, members, outsiders, _ = made
    done = audit(found["images"], members, outsiders, run, attacks=("loss",))
    shown = done.document["exposed"][0]
    record = members.select([shown["id"]])
    assert shown["says"] == f"label {record.matrix('label')[0]}: a picture of 5 x 5 x 3 values"
    pixels = np.frombuffer(bytes.fromhex(shown["picture"]["pixels"]), np.uint8)
    np.testing.assert_array_equal(pixels, np.rint(record.matrix("features")[0] * 255))
    html = (done.folder / "report.html").read_text()
    assert 'class="picture"' in html
    assert "a picture of 5 x 5 x 3 values" in html

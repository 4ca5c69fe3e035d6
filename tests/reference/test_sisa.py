"""SISA against a plain loop, and exact deletion against models that never saw the records."""

import json
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError, Lineage, Split, Target, seed_of, stream, torch_seeded
from engram.families.sharded_classifier import FAMILY
from engram.methods.edits.retrain_shards import RetrainShards
from engram.methods.recipes.sisa import Sisa
from engram.parts.deletion_cost import counted
from engram.parts.sisa_training import seen
from engram.parts.training import shuffled_batches

SMALL = {"width": 4, "layers": 1, "batch_size": 8, "epochs": 3, "learning_rate": 1e-2}


class KilledError(Exception):
    """Stands for the end of the process."""


@dataclass(frozen=True)
class FakeRun:
    """Random streams and a scratch folder; may be killed on the way."""

    scratch: Path
    seed: int = 0
    device: str = "cpu"
    dies_after: int | None = None
    logged: list = field(default_factory=list)

    def stream(self, *path):
        return stream(self.seed, *path)

    def log(self, **entry):
        self.logged.append(entry)
        if self.dies_after is not None and len(self.logged) > self.dies_after:
            raise KilledError

    def progress(self, done, total, what):
        assert 0 <= done <= total

    def tokens(self, *_):
        raise NotImplementedError

    losses = logits = computed = fit = shadows = retrained = sampler = tokens
    records = target = tokens


def blobs(n=40, seed=1):
    """Three clouds in four numbers, each record with a chance of being deleted."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, n)
    label[:3] = (0, 1, 2)
    features = (rng.normal(size=(n, 4)) + 2 * label[:, None]).astype(np.float32)
    return Split.of("blobs", features=features, label=label, deletion_probability=rng.random(n))


def target_of(recipe, split, folder, seed=0):
    """A sharded target as the engine would make it."""
    draft = recipe(split, FakeRun(folder, seed=seed))
    config = json.loads(json.dumps(asdict(recipe)))
    lineage = Lineage("sisa", "recipes", config, seed)
    prints = FAMILY.fingerprint(draft.model)
    return Target("t", "sharded-classifier", draft.model, prints, lineage=lineage), draft


def parted(split, rows):
    gone = np.zeros(len(split), bool)
    gone[list(rows)] = True
    return split.where(~gone, name="keep"), split.where(gone, name="forget")


def plain_stage(weights, features, labels, mean, scale, path, epochs, recipe):
    """AdamW, written out, on one stage; weights are changed in place."""
    seed = seed_of(0, *path) % 2**63
    x = torch.from_numpy((features - mean) / scale)
    y = torch.from_numpy(labels)
    first = {name: torch.zeros_like(w) for name, w in weights.items()}
    second = {name: torch.zeros_like(w) for name, w in weights.items()}
    per_epoch = -(-len(x) // recipe.batch_size)
    steps, t = epochs * per_epoch, 0
    for epoch in range(epochs):
        rng = stream(seed, "batches", epoch)
        for rows in shuffled_batches(np.ones(len(x), np.int64), recipe.batch_size, rng):
            rate = recipe.learning_rate * (1 + np.cos(np.pi * t / steps)) / 2
            for w in weights.values():
                w.requires_grad_(True)
                w.grad = None
            hidden = torch.nn.functional.gelu(x[rows] @ weights["w1"].T + weights["b1"])
            scores = hidden @ weights["w2"].T + weights["b2"]
            logp = scores - scores.logsumexp(1, keepdim=True)
            (-logp[torch.arange(len(rows)), y[rows]].mean()).backward()
            norm = torch.sqrt(sum((w.grad**2).sum() for w in weights.values()))
            t += 1
            with torch.no_grad():
                for name, w in weights.items():
                    g = w.grad * min(1.0, 1.0 / float(norm + 1e-6))
                    w *= 1 - rate * (recipe.weight_decay if w.ndim > 1 else 0.0)
                    first[name] = 0.9 * first[name] + 0.1 * g
                    second[name] = 0.999 * second[name] + 0.001 * g * g
                    step = first[name] / (1 - 0.9**t)
                    w -= rate * step / (torch.sqrt(second[name] / (1 - 0.999**t)) + 1e-8)


def test_training_equals_a_plain_loop(tmp_path):
    """Every shard written out: slices one after another, a new AdamW for each."""
    split, recipe = blobs(), Sisa(**SMALL, shards=2, slices=3)
    model = recipe(split, FakeRun(tmp_path)).model
    epochs = max(1, round(2 * 3 / 4))
    assert recipe.stage_epochs == epochs == 2
    features, labels = split.matrix("features"), split.matrix("label")
    cells = np.array([seed_of(0, "placement", i) % 6 for i in split.ids])
    for k in range(2):
        with torch_seeded(seed_of(0, "shard", k) % 2**63, "initial weights"):
            one, two = torch.nn.Linear(4, 4), torch.nn.Linear(4, 3)
        weights = {"w1": one.weight.data, "b1": one.bias.data,
                   "w2": two.weight.data, "b2": two.bias.data}  # fmt: skip
        begun = features[cells == 3 * k]
        mean, scale = begun.mean(0), begun.std(0)
        for j in range(3):
            there = (cells // 3 == k) & (cells % 3 <= j)
            path = ("shard", k, j)
            plain_stage(weights, features[there], labels[there], mean, scale, path, epochs, recipe)
            state = model.checkpoints[k][j].model if j < 2 else model.shards[k].model
            found = dict(state.named_parameters())
            names = ("body.1.weight", "body.1.bias", "body.3.weight", "body.3.bias")
            for name, expected in zip(names, weights.values(), strict=True):
                torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-4)


def test_shards_answer_by_mean_or_vote(tmp_path):
    split = blobs()
    mean = Sisa(**SMALL, shards=3, slices=1)(split, FakeRun(tmp_path / "a")).model
    each = np.stack([_softmax(FAMILY.inner.logits(m, split)) for m in mean.shards])
    np.testing.assert_allclose(np.exp(FAMILY.logits(mean, split)), each.mean(0), atol=1e-12)
    votes = replace(mean, aggregation="vote")
    ballots = np.stack([(each.argmax(2) == c).mean(0) for c in range(3)], 1)
    found = np.exp(FAMILY.logits(votes, split))
    np.testing.assert_allclose(found, ballots, atol=2e-6)
    even = np.sort(ballots, 1)[:, -1] == np.sort(ballots, 1)[:, -2]
    if even.any():  # the mean decides, among those with most votes
        best = np.where(ballots == ballots.max(1, keepdims=True), each.mean(0), -1).argmax(1)
        np.testing.assert_array_equal(found.argmax(1)[even], best[even])


def _softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@given(st.sets(st.integers(3, 39), min_size=1, max_size=30), st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=8)
def test_what_is_deleted_was_never_seen(tmp_path_factory, rows, shards, slices):
    """Bit for bit the model of the same recipe and seed where the records never were."""
    folder = tmp_path_factory.mktemp("sisa")
    split, recipe = blobs(), Sisa(**{**SMALL, "epochs": 1}, shards=shards, slices=slices)
    target, _ = target_of(recipe, split, folder / "a", seed=5)
    keep, forget = parted(split, rows)
    # Another seed of the edit changes nothing: the streams are those of the recipe.
    draft = RetrainShards()(target, keep.reversed(), forget, FakeRun(folder / "b", seed=77))
    never, _ = target_of(recipe, keep, folder / "c", seed=5)
    assert FAMILY.fingerprint(draft.model) == never.fingerprint
    assert FAMILY.fingerprint(target.model) == target.fingerprint
    assert set(draft.model.placement.ids) == set(keep.ids)
    assert seen(draft.trace) == counted(
        target.model.placement, recipe.stage_epochs, [target.model.placement.rows(forget.ids)]
    )


def test_other_shards_and_earlier_slices_are_left_alone(tmp_path):
    split, recipe = blobs(), Sisa(**SMALL, shards=3, slices=3)
    target, _ = target_of(recipe, split, tmp_path / "a")
    placed = target.model.placement
    row = int(np.flatnonzero((placed.shard == 1) & (placed.slice == 1))[0])
    keep, forget = parted(split, [row])
    draft = RetrainShards()(target, keep, forget, FakeRun(tmp_path / "b"))
    prints = {name: FAMILY.inner.fingerprint(m) for name, m in target.model.stored.items()}
    after = {name: FAMILY.inner.fingerprint(m) for name, m in draft.model.stored.items()}
    changed = {name for name in prints if prints[name] != after[name]}
    assert changed == {"shards/1", "shards/1/slice-1"}
    assert {entry["shard"] for entry in draft.trace} == {1}
    assert {entry["slice"] for entry in draft.trace} == {1, 2}
    assert draft.guarantee["kind"] == "exact"


def test_placement_by_likelihood_is_kept_and_cheap(tmp_path):
    split, recipe = blobs(), Sisa(**SMALL, shards=4, slices=2, placement="likelihood")
    target, _ = target_of(recipe, split, tmp_path / "a")
    placed, chances = target.model.placement, split.matrix("deletion_probability")
    assert placed.sizes.tolist() == [[5, 5]] * 4
    by_cell = [chances[(placed.shard == k) & (placed.slice == j)] for k in range(4) for j in (0, 1)]
    assert all(a.max() <= b.min() for a, b in pairwise(by_cell))
    keep, forget = parted(split, np.argsort(chances)[-5:])
    draft = RetrainShards()(target, keep, forget, FakeRun(tmp_path / "b"))
    # The five likeliest lie in the last slice of the last shard: its first slice alone is seen.
    assert seen(draft.trace) == recipe.stage_epochs * 5
    classes = target.model.shards[0].layout.classes
    never = recipe.train_shard(
        3, keep, placed.without(forget.ids), classes, FakeRun(tmp_path / "c"), seed=0
    )
    assert FAMILY.inner.fingerprint(draft.model.shards[3]) == FAMILY.inner.fingerprint(
        replace(draft.model.shards[3], model=never.states[-1])
    )


def test_one_request_after_another_is_as_all_in_one_go(tmp_path):
    split, recipe = blobs(), Sisa(**SMALL, shards=2, slices=2)
    target, _ = target_of(recipe, split, tmp_path / "a")
    keep, forget = parted(split, [4, 9, 30])
    at_once = RetrainShards()(target, keep, forget, FakeRun(tmp_path / "b"))
    now, rest = target, split
    for place, record in enumerate(forget.ids):
        gone = rest.select([record])
        rest = rest.where([i != record for i in rest.ids])
        draft = RetrainShards()(now, rest, gone, FakeRun(tmp_path / f"s{place}"))
        history = (now.lineage.to_json(),) if not now.lineage.history else now.lineage.history
        step = replace(now.lineage, kind="edits", method="retrain-shards", history=history)
        now = replace(now, model=draft.model, lineage=step)
    assert FAMILY.fingerprint(now.model) == FAMILY.fingerprint(at_once.model)


@pytest.mark.parametrize("dies_after", [3, 9, 15])
def test_goes_on_where_it_was_killed(tmp_path, monkeypatch, dies_after):
    monkeypatch.setattr("engram.parts.training.PAUSE", 0.0)
    monkeypatch.setattr("engram.parts.training.SHARE", 1e9)
    split, recipe = blobs(), Sisa(**SMALL, shards=2, slices=3)
    whole = recipe(split, FakeRun(tmp_path / "a"))
    with pytest.raises(KilledError):
        recipe(split, FakeRun(tmp_path / "b", dies_after=dies_after))
    run = FakeRun(tmp_path / "b")
    again = recipe(split, run)
    assert FAMILY.fingerprint(again.model) == FAMILY.fingerprint(whole.model)
    assert again.trace == whole.trace
    assert len(run.logged) < len(whole.trace)


def test_saved_and_opened_it_forgets_the_same(tmp_path):
    split, recipe = blobs(), Sisa(**SMALL, shards=3, slices=2)
    target, _ = target_of(recipe, split, tmp_path / "a")
    FAMILY.save(target.model, tmp_path / "saved")
    opened = FAMILY.load(tmp_path / "saved")
    assert FAMILY.fingerprint(opened) == target.fingerprint
    np.testing.assert_array_equal(FAMILY.losses(opened, split), FAMILY.losses(target.model, split))
    keep, forget = parted(split, [3, 8])
    one, other = (
        RetrainShards()(each, keep, forget, FakeRun(tmp_path / name)).model
        for name, each in {"x": target, "y": replace(target, model=opened)}.items()
    )
    assert FAMILY.fingerprint(one) == FAMILY.fingerprint(other)


def test_the_last_record_of_a_shard_and_of_a_class(tmp_path):
    split, recipe = blobs(), Sisa(**SMALL, shards=3, slices=2)
    target, _ = target_of(recipe, split, tmp_path / "a")
    placed = target.model.placement
    keep, forget = parted(split, np.flatnonzero(placed.shard == 1))
    empty = RetrainShards()(target, keep, forget, FakeRun(tmp_path / "b"))
    assert empty.model.shards[1] is None
    assert empty.model.checkpoints[1] == (None,)
    assert FAMILY.describe(empty.model)["empty shards"] == [1]
    each = np.stack([_softmax(FAMILY.inner.logits(empty.model.shards[k], split)) for k in (0, 2)])
    np.testing.assert_allclose(np.exp(FAMILY.logits(empty.model, split)), each.mean(0), atol=1e-12)
    FAMILY.save(empty.model, tmp_path / "saved")
    assert FAMILY.fingerprint(FAMILY.load(tmp_path / "saved")) == FAMILY.fingerprint(empty.model)

    keep, forget = parted(split, np.flatnonzero(split.matrix("label") == 2))
    no_class = RetrainShards()(target, keep, forget, FakeRun(tmp_path / "c"))
    assert FAMILY.logits(no_class.model, split).shape == (len(split), 3)
    assert np.isfinite(FAMILY.losses(no_class.model, split)).all()
    told, _ = target_of(replace(recipe, classes=3), split, tmp_path / "d")
    fewer = RetrainShards()(told, keep, forget, FakeRun(tmp_path / "e"))
    never, _ = target_of(replace(recipe, classes=3), keep, tmp_path / "f")
    assert FAMILY.fingerprint(fewer.model) == never.fingerprint


def test_more_slices_than_records(tmp_path):
    split, recipe = blobs(n=6), Sisa(**{**SMALL, "epochs": 1}, shards=2, slices=8)
    target, draft = target_of(recipe, split, tmp_path / "a")
    assert (target.model.placement.sizes == 0).any()
    keep, forget = parted(split, [5])
    found = RetrainShards()(target, keep, forget, FakeRun(tmp_path / "b"))
    never, _ = target_of(replace(recipe, classes=3), keep, tmp_path / "c")
    assert FAMILY.fingerprint(found.model) == never.fingerprint
    sizes = target.model.placement.sizes.cumsum(1)
    assert seen(draft.trace) == sizes.sum() * recipe.stage_epochs


class TestMistakes:
    @pytest.fixture
    def made(self, tmp_path_factory):
        split, recipe = blobs(), Sisa(**{**SMALL, "epochs": 1}, shards=2, slices=2)
        return split, target_of(recipe, split, tmp_path_factory.mktemp("sisa"))[0]

    def test_a_record_that_was_never_placed(self, made, tmp_path):
        split, target = made
        other = blobs(n=3, seed=9)
        with pytest.raises(EngramError, match=r"no shard holds record '.*' \(3 such"):
            RetrainShards()(target, split, other, FakeRun(tmp_path))

    def test_a_record_that_is_neither_kept_nor_forgotten(self, made, tmp_path):
        split, target = made
        with pytest.raises(EngramError, match=r"neither to be kept nor to be forgotten \(2 such"):
            RetrainShards()(target, split.take(range(3, 40)), split.take([0]), FakeRun(tmp_path))

    def test_everything(self, made, tmp_path):
        split, target = made
        with pytest.raises(EngramError, match="no record would be left"):
            RetrainShards()(target, split.take([]), split, FakeRun(tmp_path))

    def test_nothing(self, made, tmp_path):
        split, target = made
        with pytest.raises(EngramError, match="no records to forget"):
            RetrainShards()(target, split, None, FakeRun(tmp_path))

    def test_a_target_that_does_not_say_how_it_was_trained(self, made, tmp_path):
        split, target = made
        keep, forget = parted(split, [0])
        for lineage in (Lineage(), Lineage("other", "recipes", {"epochs": 3})):
            with pytest.raises(EngramError, match="does not carry the recipe"):
                RetrainShards()(replace(target, lineage=lineage), keep, forget, FakeRun(tmp_path))

    @pytest.mark.parametrize(
        ("fields", "what"),
        [
            ({"shards": 0}, "shards is 0"),
            ({"slices": 0}, "slices is 0"),
            ({"shards": 10**6}, "must be at most"),
            ({"classes": -1}, "classes is -1"),
        ],
    )
    def test_fields(self, fields, what):
        with pytest.raises(EngramError, match=what):
            Sisa(**fields)

    def test_no_records_and_no_chances(self, tmp_path):
        with pytest.raises(EngramError, match="no records"):
            Sisa(**SMALL)(blobs().take([]), FakeRun(tmp_path))
        recipe = Sisa(**SMALL, placement="likelihood", likelihood="risk")
        with pytest.raises(EngramError, match="no column 'risk' of deletion probabilities"):
            recipe(blobs(), FakeRun(tmp_path))
        features = blobs().matrix("features")
        bad = Split.of("bad", features=features, label=[0] * 40, deletion_probability=[1.5] * 40)
        with pytest.raises(EngramError, match=r"deletion probability 1\.5"):
            Sisa(**SMALL, placement="likelihood")(bad, FakeRun(tmp_path))
        words = Split.of("w", features=features, label=[0] * 40, deletion_probability=["a"] * 40)
        with pytest.raises(EngramError, match="holds string, not probabilities"):
            Sisa(**SMALL, placement="likelihood")(words, FakeRun(tmp_path))

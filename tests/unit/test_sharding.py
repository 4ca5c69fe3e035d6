"""Where records lie, how shards answer as one, and what damaged folders are told."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError, Split, torch_seeded
from engram.families import find, names
from engram.families.classifier import ClassifierModel
from engram.parts.networks import Layout
from engram.parts.placing import by_likelihood, uniform
from engram.parts.sharded_models import ShardedModel
from engram.parts.sharding import TIE, Placement, mean, vote, weighted

IDS = ("a", "b", "c", "d", "e")
TWO = np.array([[[0.6, 0.4], [0.9, 0.1]], [[0.1, 0.9], [0.8, 0.2]]])
FAMILY = find("sharded-classifier")


def test_the_rows_sizes_and_order_of_a_placement():
    placed = Placement.of(IDS, [1, 0, 1, 1, 0], [0, 1, 1, 0, 0])
    assert (placed.shards, placed.slices) == (2, 2)
    assert placed.sizes.tolist() == [[1, 1], [2, 1]]
    assert placed.rows(["d", "a"]).tolist() == [3, 0]
    assert placed.inside(1) == ("a", "c", "d")
    assert placed.inside(1, upto=0) == ("a", "d")
    rest = placed.without(["a", "d"])
    assert tuple(rest.ids) == ("b", "c", "e")
    assert rest.sizes.tolist() == [[1, 1], [0, 1]]
    assert rest.shards == 2


def test_it_is_saved_and_read(tmp_path):
    placed = Placement.of(IDS, [1, 0, 3, 1, 0], [0, 1, 1, 0, 0], shards=6, slices=3)
    placed.save(tmp_path)
    again = Placement.load(tmp_path, 6, 3)
    assert tuple(again.ids) == IDS
    np.testing.assert_array_equal(again.sizes, placed.sizes)
    with pytest.raises(EngramError, match=r"record 'c' is placed in shard 3, but there are 3"):
        Placement.load(tmp_path, 3, 3)
    with pytest.raises(EngramError, match="cannot be read"):
        Placement.load(tmp_path / "nowhere", 3, 3)


@pytest.mark.parametrize(
    ("ids", "shard", "what"),
    [
        (("a", "b", "a"), [0, 1, 2], "record 'a' is claimed by shards 0 and 2"),
        (("a", "b", "b"), [0, 1, 1], "record 'b' is claimed by shard 1 twice"),
        (("a", "b"), [0], "1 entries of shard for 2 records"),
        (("a", "b"), [0, -1], "record 'b' is placed in shard -1"),
    ],
)
def test_mistakes_name_the_record(ids, shard, what):
    with pytest.raises(EngramError, match=what):
        Placement.of(ids, shard)


def test_a_record_that_no_shard_holds():
    placed = Placement.of(IDS, [0] * 5)
    with pytest.raises(EngramError, match=r"no shard holds record 'x' \(2 such ids\)"):
        placed.rows(["a", "x", "y"])
    with pytest.raises(EngramError, match="shards is 0"):
        Placement(IDS, np.zeros(5, int), np.zeros(5, int), 0)


@given(st.sets(st.text(min_size=1, max_size=4), min_size=1, max_size=30), st.data())
@settings(max_examples=40)
def test_a_uniform_place_does_not_depend_on_the_others(ids, data):
    ids = sorted(ids)
    shards, slices = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 5))
    gone = data.draw(st.sets(st.sampled_from(ids)))
    everybody = uniform(ids, shards, slices, seed=3)
    rest = [record for record in ids if record not in gone]
    alone, left = uniform(rest, shards, slices, seed=3), everybody.without(gone)
    np.testing.assert_array_equal(alone.shard, left.shard)
    np.testing.assert_array_equal(alone.slice, left.slice)


def test_uniform_places_are_about_even():
    sizes = uniform([str(i) for i in range(6000)], 5, 3, seed=0).sizes
    assert abs(sizes - 400).max() < 5 * np.sqrt(400)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=40)
def test_likely_records_lie_late(chances, shards, slices):
    chances = np.array(chances)
    placed = by_likelihood([str(i) for i in range(len(chances))], chances, shards, slices)
    sizes = placed.sizes.sum(1)
    assert sizes.max() - sizes.min() <= 1
    cell = placed.shard * slices + placed.slice
    lowest = [chances[cell == c].min() for c in np.unique(cell)]
    highest = [chances[cell == c].max() for c in np.unique(cell)]
    assert all(high <= low for high, low in zip(highest, lowest[1:], strict=False))


def test_aggregation_by_hand():
    np.testing.assert_allclose(mean(TWO), [[0.35, 0.65], [0.85, 0.15]])
    np.testing.assert_allclose(
        weighted(TWO, np.array([3.0, 1.0])), [[0.475, 0.525], [0.875, 0.125]]
    )
    np.testing.assert_allclose(weighted(TWO, np.array([0.0, 2.0])), TWO[1])
    # One vote each: the mean decides. Two votes: no doubt.
    even = [(1 - TIE) / 2 + TIE * 0.35, (1 - TIE) / 2 + TIE * 0.65]
    np.testing.assert_allclose(vote(TWO), [even, [1 - TIE * 0.15, TIE * 0.15]])
    assert vote(TWO).argmax(1).tolist() == [1, 0]


def test_votes_are_not_a_mean():
    """Two lukewarm shards outvote a sure one; on average the sure one wins."""
    answers = np.array([[[0.51, 0.49]], [[0.51, 0.49]], [[0.0, 1.0]]])
    assert vote(answers).argmax() == 0
    assert mean(answers).argmax() == 1


@pytest.mark.parametrize("how", [mean, vote, lambda p: weighted(p, np.zeros(0))])
def test_no_shards_cannot_be_asked(how):
    with pytest.raises(EngramError, match="every one is empty"):
        how(np.zeros((0, 3, 2)))


@pytest.mark.parametrize("weights", [[0, 0], [-1, 2], [np.nan, 1]])
def test_weights_that_weigh_nothing(weights):
    with pytest.raises(EngramError, match="the weights of the shards are"):
        weighted(TWO, np.array(weights, np.float64))


@given(st.integers(1, 5), st.integers(1, 6), st.integers(2, 4), st.integers(0, 2**20))
@settings(max_examples=40)
def test_every_aggregation_gives_probabilities(shards, n, classes, seed):
    given = np.random.default_rng(seed).dirichlet(np.ones(classes), (shards, n))
    for found in (mean(given), vote(given), weighted(given, np.arange(1.0, shards + 1))):
        np.testing.assert_allclose(found.sum(1), 1)
        assert (found >= 0).all()


@pytest.fixture
def sharded():
    """Three shards of a tiny network; the second is empty."""
    with torch_seeded(0, "tests"):
        nets = [ClassifierModel(Layout("mlp", (4,), 3, width=8).build().eval()) for _ in range(3)]
    placed = Placement.of(IDS, [0, 0, 2, 2, 2], [0, 1, 0, 1, 1], shards=3)
    states = ((nets[1],), (None,), (nets[0],))
    extra = {"chosen": np.array([0, 3])}
    weights = np.array([0.25, 0.5, 0.25])
    return ShardedModel((nets[0], None, nets[2]), states, placed, "learned", weights, extra)


@pytest.fixture
def records():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(6, 4)).astype(np.float32)
    return Split.of("arrays", features=features, label=rng.integers(0, 3, 6))


def test_the_family_is_found_and_answers(sharded, records):
    assert "sharded-classifier" in names()
    assert FAMILY.answers == {"losses", "logits"}
    FAMILY.check(records)
    each = FAMILY.posteriors(sharded, records)
    assert each.shape == (2, 6, 3)
    expected = (each[0] + each[1]) / 2
    np.testing.assert_allclose(np.exp(FAMILY.logits(sharded, records)), expected)
    rows = np.arange(6), records.matrix("label")
    np.testing.assert_allclose(FAMILY.losses(sharded, records), -np.log(expected[rows]))
    assert [f.name for f in FAMILY.quality(sharded, records, np.random.default_rng(0))] == [
        "accuracy", "log-loss",
    ]  # fmt: skip
    facts = FAMILY.describe(sharded)
    assert facts["stored models"] == 4
    assert facts["records by shard"] == [2, 0, 3]
    assert FAMILY.outcomes(sharded, records) == ("scored",) * 6
    assert len(FAMILY.perturb(records, 0.5, np.random.default_rng(0))) == 6
    assert len(FAMILY.canaries(3, np.random.default_rng(0), features=4, classes=3)) == 3
    assert "label" in FAMILY.render(records, 0)


def test_the_fingerprint_covers_everything(sharded, records, tmp_path):
    from dataclasses import replace

    own = FAMILY.fingerprint(sharded)
    others = [
        replace(sharded, aggregation="mean"),
        replace(sharded, weights=np.array([0.5, 0.5, 0.0])),
        replace(sharded, extra={}),
        replace(sharded, checkpoints=((None,), (None,), sharded.checkpoints[2])),
        replace(sharded, placement=sharded.placement.without(["a"])),
    ]
    assert len({own, *(FAMILY.fingerprint(other) for other in others)}) == 6
    FAMILY.save(sharded, tmp_path)
    again = FAMILY.load(tmp_path)
    assert FAMILY.fingerprint(again) == own
    assert again.extra["chosen"].tolist() == [0, 3]
    np.testing.assert_array_equal(FAMILY.losses(again, records), FAMILY.losses(sharded, records))


def test_damaged_folders_are_refused(sharded, tmp_path):
    with pytest.raises(EngramError, match="holds no sharded model"):
        FAMILY.load(tmp_path)
    FAMILY.save(sharded, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, what in [
        ({"kind": "other"}, "does not describe shards"),
        ({"family": "estimator"}, "does not describe shards"),
        ({"shards": 3}, "names no shards that fit"),
        ({"shards": [True]}, "names no shards that fit"),
        ({"slices": 1}, "is placed in slice 1"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(EngramError, match=what):
            FAMILY.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "sharding.safetensors").write_bytes(b"no")
    with pytest.raises(EngramError, match="cannot be read"):
        FAMILY.load(tmp_path)


def test_models_that_do_not_fit_their_placement(sharded):
    with pytest.raises(EngramError, match="do not fit 3 shards"):
        ShardedModel(sharded.shards[:2], sharded.checkpoints, sharded.placement)

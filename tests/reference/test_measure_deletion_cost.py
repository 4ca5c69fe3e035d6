"""The cost of deletions against going through every request there can be."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError, Lineage, Target, stream
from engram.methods.measures.deletion_cost import DeletionCost
from engram.parts.deletion_cost import (
    by_chance,
    counted,
    expected_share,
    first_training,
    in_one_go,
    one_by_one,
    simulated,
    stage_epochs,
)
from engram.parts.placing import uniform
from engram.parts.sharding import Placement


def slow_cost(placement, epochs, batches):
    """Records looked at, by going through shards, slices and records one by one."""
    left, total = set(placement.ids), 0
    cell = {i: (int(s), int(t)) for i, s, t in zip(
        placement.ids, placement.shard, placement.slice, strict=True)}  # fmt: skip
    for batch in batches:
        left -= set(batch)
        for shard in range(placement.shards):
            hit = [cell[i][1] for i in batch if cell[i][0] == shard]
            for upto in range(min(hit, default=10**9), placement.slices):
                total += epochs * sum(cell[i][0] == shard and cell[i][1] <= upto for i in left)
    return total


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=6),
    st.integers(1, 3),
    st.integers(1, 3),
)
@settings(max_examples=30)
def test_the_formulas_are_the_mean_over_all_requests(cells, requests, epochs):
    requests = min(requests, len(cells))
    ids = tuple(str(i) for i in range(len(cells)))
    placed = Placement.of(ids, [c[0] for c in cells], [c[1] for c in cells], shards=3, slices=3)
    together = [slow_cost(placed, epochs, [batch]) for batch in combinations(ids, requests)]
    assert in_one_go(placed.sizes, epochs, requests) == pytest.approx(np.mean(together))
    single = [
        slow_cost(placed, epochs, [[i] for i in order]) for order in permutations(ids, requests)
    ]
    assert one_by_one(placed.sizes, epochs, requests).sum() == pytest.approx(np.mean(single))
    rows = [np.array([row]) for row in range(requests)]
    slowly = slow_cost(placed, epochs, [[record] for record in ids[:requests]])
    assert counted(placed, epochs, rows).sum() == slowly


def test_a_case_by_hand():
    """Two shards of two slices, one record in each; one epoch.

    A record of a first slice: its shard learns one record in slice 1 (0 are left in slice 0).
    A record of a second slice: one is left, looked at once. So any request costs 1.
    """
    placed = Placement.of(("a", "b", "c", "d"), [0, 0, 1, 1], [0, 1, 0, 1])
    assert first_training(placed.sizes, 1) == 6
    assert one_by_one(placed.sizes, 1, 1).tolist() == [1.0]
    assert in_one_go(placed.sizes, 1, 1) == pytest.approx(1.0)
    # a and b: nothing is left. a and c: one each. a and d, b and c: one each. b and d, c and d ...
    assert in_one_go(placed.sizes, 1, 2) == pytest.approx((0 + 2 + 2 + 2 + 2 + 0) / 6)


def test_for_many_records_it_is_the_papers_formula():
    """Two thirds and a third of a slice of the shard's epochs: equation in section IV-B."""
    for shards, slices in ((5, 1), (5, 4), (20, 9)):
        sizes = np.full((shards, slices), 10_000)
        epochs = 9 * (slices + 1)  # divisible: no rounding
        stage = stage_epochs(epochs, slices)
        assert first_training(sizes, stage) == pytest.approx(epochs * sizes.sum())
        share = expected_share(sizes, epochs, 1, together=True)
        assert share == pytest.approx((2 / 3 + 1 / (3 * slices)) / shards, rel=1e-3)


def test_chances_of_one_and_zero_are_certain_requests():
    placed = uniform([str(i) for i in range(30)], 3, 2, seed=0)
    gone = np.zeros(30)
    gone[[3, 17]] = 1
    assert by_chance(placed, 2, gone) == counted(placed, 2, [np.array([3, 17])]).sum()
    assert by_chance(placed, 2, np.zeros(30)) == 0


def test_even_chances_are_near_requests_by_lot():
    placed = uniform([str(i) for i in range(2000)], 5, 4, seed=0)
    expected = by_chance(placed, 1, np.full(2000, 0.005))
    assert expected == pytest.approx(in_one_go(placed.sizes, 1, 10), rel=0.05)


@pytest.mark.parametrize("together", [True, False])
def test_a_simulation_agrees(together):
    placed = uniform([str(i) for i in range(500)], 5, 4, seed=1)
    drawn = simulated(placed, 3, 8, stream(0), together=together, draws=400)
    cost = in_one_go(placed.sizes, 3, 8) if together else one_by_one(placed.sizes, 3, 8).sum()
    assert abs(drawn.mean() - cost) < 4 * drawn.std() / 20


def test_mistakes():
    placed = uniform(("a", "b"), 2, 1, seed=0)
    with pytest.raises(EngramError, match="3 requests were asked about, but there are 2 records"):
        in_one_go(placed.sizes, 1, 3)
    with pytest.raises(EngramError, match="deleted twice"):
        counted(placed, 1, [np.array([0]), np.array([0])])
    for fields in ({"requests": ()}, {"requests": (0,)}, {"draws": 1}):
        with pytest.raises(EngramError):
            DeletionCost(**fields)


def test_the_measure_says_both_ways_and_what_it_cannot_say(run):
    from types import SimpleNamespace

    placed = uniform([str(i) for i in range(200)], 5, 2, seed=0)
    lineage = Lineage("sisa", "recipes", {"epochs": 6})
    target = Target("t", "sharded-classifier", SimpleNamespace(placement=placed), "", "weights",
                    lineage)  # fmt: skip
    found = DeletionCost(requests=(1, 20, 500))(target, {}, run)
    assert len(found) == 4
    assert all(0 < f.value <= 1 and f.low <= f.value <= f.high for f in found)
    assert found[0].value == pytest.approx(expected_share(placed.sizes, 6, 1, together=True))
    assert found[0].value < found[2].value
    assert found[3].value == pytest.approx(found[1].value, rel=1e-9)  # K times one, over K
    few = DeletionCost(requests=(500,))(target, {}, run)
    assert [f.value for f in few] == [None]
    plain = Target("p", "classifier", SimpleNamespace(), "")
    assert DeletionCost()(plain, {}, run)[0].value is None

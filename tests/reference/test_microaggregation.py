"""MDAV, its insensitive form and t-closeness: by hand, by a slow second way, and by properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engram.core import EngramError, stream
from engram.parts.closeness import distances_to_table, moved_earth
from engram.parts.microaggregation import (
    by_order,
    centroids,
    insensitive_mdav,
    mdav,
    sizes_of_equals,
)


def slow_mdav(points, k):
    """MDAV from its words alone: sets of rows, sorted by distance, then by row."""
    left, groups = list(range(len(points))), []

    def away(row, centre):
        return float(sum((a - b) ** 2 for a, b in zip(points[row], centre, strict=True)))

    def group_around(centre):
        near = sorted(left, key=lambda row: (away(row, centre), row))[:k]
        for row in near:
            left.remove(row)
        groups.append(set(near))

    def farthest(centre):
        return points[min(left, key=lambda row: (-away(row, centre), row))]

    while len(left) >= 3 * k:
        r = farthest(points[left].mean(0))
        group_around(r)
        group_around(farthest(r))
    if len(left) >= 2 * k:
        group_around(farthest(points[left].mean(0)))
    groups.append(set(left))
    return groups


def as_sets(group):
    return [set(np.flatnonzero(group == g).tolist()) for g in range(group.max() + 1)]


def test_by_hand():
    """Mean of 0 1 2 3 8 9 10 is 4.71: r = 10 and s = 0; then 2 and its like, and what is left."""
    points = np.array([[0.0], [1], [2], [3], [8], [9], [10]])
    # 7 records are 3 k + 1: {10, 9}, {0, 1}; 3 are left with mean 4.33: 8 is the farthest.
    assert as_sets(mdav(points, 2)) == [{5, 6}, {0, 1}, {2, 3, 4}]
    assert as_sets(mdav(points[:5], 2)) == [{3, 4}, {0, 1, 2}]
    assert as_sets(mdav(points[:3], 2)) == [{0, 1, 2}]
    np.testing.assert_allclose(
        centroids(points, mdav(points, 2))[:, 0], [0.5, 0.5, 13 / 3, 13 / 3, 13 / 3, 9.5, 9.5]
    )


@pytest.mark.parametrize(("n", "k", "d"), [(60, 3, 2), (61, 5, 4), (47, 10, 3), (29, 10, 1)])
def test_agrees_with_the_slow_way(n, k, d):
    points = stream(n, "points").normal(size=(n, d))
    assert as_sets(mdav(points, k)) == slow_mdav(points, k)


def test_ties_go_to_the_first():
    """A grid has many; the first farthest and the first nearest are taken."""
    points = np.array([[x, y] for x in range(6) for y in range(6)], float)
    found = as_sets(mdav(points, 2))
    assert found == slow_mdav(points, 2)
    assert found[0] == {0, 1}  # the first corner, and of its neighbours 1 and 6 the first


TABLES = arrays(
    np.float64,
    st.tuples(st.integers(1, 50), st.integers(1, 3)),
    elements=st.integers(-3, 3).map(float),
)


@given(TABLES, st.integers(1, 9))
def test_every_group_has_k_and_no_second_one_could_be_cut_off(points, k):
    if k > len(points):
        with pytest.raises(EngramError, match="only"):
            mdav(points, k)
        return
    sizes = np.bincount(mdav(points, k))
    assert sizes.sum() == len(points)
    assert (sizes[:-1] == k).all()
    assert k <= sizes[-1] < 2 * k
    assert sizes_of_equals(centroids(points, mdav(points, k))).min() >= k
    lines = np.bincount(insensitive_mdav(points, np.full(points.shape[1], -3.0), k))
    assert (lines == k).sum() >= len(lines) - 1
    assert k <= lines.max() < 2 * k


@given(TABLES, st.integers(1, 9), st.data())
def test_one_record_changes_an_insensitive_group_by_one(points, k, data):
    """That the noise of means is enough depends on it; MDAV itself has no such property."""
    k, low = min(k, len(points)), np.full(points.shape[1], -3.0)
    row = data.draw(st.integers(0, len(points) - 1))
    other = points.copy()
    other[row] = data.draw(st.lists(st.integers(-3, 3), min_size=len(low), max_size=len(low)))
    before, after = insensitive_mdav(points, low, k), insensitive_mdav(other, low, k)
    for g in range(before.max() + 1):
        one, two = (sorted(map(tuple, p[b == g])) for p, b in ((points, before), (other, after)))
        left = list(two)
        for value in one:
            if value in left:
                left.remove(value)
        assert len(one) == len(two)
        assert len(left) <= 1


def test_runs_of_an_order():
    """Eight in threes: the middle one is longer."""
    assert by_order(np.array([7, 6, 5, 4, 3, 2, 1, 0]), 3).tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert by_order(np.arange(9), 3).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_mistakes_are_told():
    with pytest.raises(EngramError, match="k is 4, but the table has only 3 records"):
        mdav(np.zeros((3, 2)), 4)
    with pytest.raises(EngramError, match="k is 0"):
        mdav(np.zeros((3, 2)), 0)
    with pytest.raises(EngramError, match="not finite"):
        mdav(np.array([[np.nan], [1.0]]), 1)


def test_moved_earth_by_hand():
    """Of Li et al.: incomes 3k ... 11k in steps of 1k, a class with 3k 4k 5k, another with
    6k 8k 11k: 0.375 and 0.167."""
    whole = np.full(9, 1 / 9)
    lows, mixed = np.zeros(9), np.zeros(9)
    lows[[0, 1, 2]], mixed[[3, 5, 8]] = 1 / 3, 1 / 3
    assert moved_earth(lows, whole, ordered=True) == pytest.approx(0.375)
    assert moved_earth(mixed, whole, ordered=True) == pytest.approx(1 / 6)
    assert moved_earth(lows, whole, ordered=False) == pytest.approx(2 / 3)
    assert moved_earth(np.ones(1), np.ones(1), ordered=True) == 0


def transported(one, other, distance):
    """The cheapest way to carry one distribution over into another, by linear programming."""
    from scipy.optimize import linprog

    m = len(one)
    rows = [np.kron(np.eye(m)[i], np.ones(m)) for i in range(m)]
    columns = [np.kron(np.ones(m), np.eye(m)[j]) for j in range(m)]
    found = linprog(
        distance.ravel(), A_eq=np.array([*rows, *columns]), b_eq=np.concatenate([one, other])
    )
    return found.fun


@pytest.mark.parametrize("ordered", [True, False])
def test_moved_earth_is_the_cheapest_transport(ordered):
    rng, m = stream(0, "earth"), 5
    places = np.arange(m)
    near = np.abs(places[:, None] - places) / (m - 1)
    distance = near if ordered else (near > 0).astype(float)
    for _ in range(5):
        one, other = rng.dirichlet(np.ones(m), 2)
        found = moved_earth(one, other, ordered=ordered)
        assert found == pytest.approx(transported(one, other, distance), abs=1e-9)
        assert 0 <= found <= 1


def test_distance_of_groups_from_the_table():
    group, values = np.array([0, 0, 1, 1]), np.array([5, 5, 5, 9])
    np.testing.assert_allclose(distances_to_table(group, values, ordered=False), [0.25, 0.25])

"""Partitioners of graphs against slow second implementations, and against what they promise."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError, stream
from engram.parts.graph import Graph
from engram.parts.graph_embedding import embed, neighbour_loss
from engram.parts.graph_partition import BALANCED, PARTITIONERS, cut_share, divide, largest_size
from engram.parts.graph_partition.kmeans import least_sum, shortest_first, squared_distances
from engram.parts.graph_partition.propagation import even_start, move_in_order, wishes
from engram.parts.graph_partition.published import dealt_out
from engram.parts.graph_partition.relocation import gains, how_many


def drawn(n, edges, seed=0):
    return Graph.of(stream(seed, "edges").integers(0, n, (2, edges)), n)


def rings(count, size):
    """Cliques, each with one edge to the next."""
    pairs = [(k * size + a, k * size + b) for k in range(count) for a in range(size)
             for b in range(a)]  # fmt: skip
    pairs += [(k * size, ((k + 1) % count) * size + 1) for k in range(count)]
    return Graph.of(np.array(pairs).T, count * size)


def test_the_largest_size_of_coras_shards():
    assert largest_size(2438, 20, 0.005) == 134  # the golden value


@given(st.integers(1, 5000), st.integers(1, 60), st.sampled_from(["0", "0.005", "0.1", "1"]))
def test_the_largest_size_in_fractions(n, m, delta):
    exact = Fraction(n, m) + Fraction(delta) * (n - Fraction(n, m))
    assert largest_size(n, m, float(delta)) == math.ceil(exact)


@settings(max_examples=40)
@given(
    st.integers(1, 40), st.integers(0, 90), st.integers(1, 8), st.sampled_from([0.0, 0.005, 0.2]),
    st.integers(0, 10**6), st.sampled_from(sorted(BALANCED)),
)  # fmt: skip
def test_no_community_is_larger_than_it_may_be(n, edges, m, delta, seed, method):
    graph, rng = drawn(n, edges, seed), stream(seed, "partition")
    embedding = stream(seed, "embedding").normal(size=(n, 3)) if "bekm" in method else None
    found = divide(method, graph, m, rng, delta=delta, rounds=6, embedding=embedding)
    assert found.shape == (n,)
    assert found.min() >= 0
    assert np.bincount(found, minlength=m).max() <= largest_size(n, m, delta)
    assert len(np.bincount(found, minlength=m)) == m


@pytest.mark.parametrize("method", PARTITIONERS)
def test_every_partitioner_repeats_itself_and_places_every_node(method):
    graph = rings(6, 8)
    embedding = embed(graph, np.eye(48, dtype=np.float32), 0, steps=20)
    one, other = (
        divide(method, graph, 6, stream(3, "partition"), embedding=embedding) for _ in range(2)
    )
    np.testing.assert_array_equal(one, other)
    assert set(one.tolist()) <= set(range(6))
    if method != "random":  # cliques are plain to see
        assert cut_share(graph, one) < 0.6 * cut_share(graph, even_start(48, 6, stream(0, "lot")))


def test_the_share_of_cut_edges_by_hand():
    graph = Graph.of(np.array([[0, 1, 2], [1, 2, 3]]), 4)
    assert cut_share(graph, np.array([0, 0, 1, 1])) == pytest.approx(1 / 3)
    assert cut_share(Graph.of(np.zeros((2, 0), int), 4), np.zeros(4, int)) == 0.0


def wishes_one_by_one(graph, community, m):
    """Of each node with a wish: the communities that share the most neighbours, and how many."""
    near = {v: [] for v in range(graph.nodes)}
    for u, v in graph.edges.T.tolist():
        near[u].append(v)
        near[v].append(u)
    found = {}
    for v, others in near.items():
        counts = [sum(community[w] == k for w in others) for k in range(m)]
        if others:
            found[v] = ({k for k in range(m) if counts[k] == max(counts)}, max(counts))
    return found


@given(st.integers(2, 25), st.integers(0, 60), st.integers(1, 5), st.integers(0, 10**6))
def test_wishes_are_for_where_most_neighbours_are(n, edges, m, seed):
    graph = drawn(n, edges, seed)
    community = even_start(n, m, stream(seed, "start"))
    who, where, count = wishes(graph, community, m, stream(seed, "wishes"))
    expected = wishes_one_by_one(graph, community, m)
    assert len(set(who.tolist())) == len(who)
    for v, k, xi in zip(who.tolist(), where.tolist(), count.tolist(), strict=True):
        assert k in expected[v][0]
        assert k != community[v]
        assert xi == expected[v][1]
    # Who has no wish is at home already, or may have drawn it where several are as good.
    for v in set(expected) - set(who.tolist()):
        assert community[v] in expected[v][0]


def moves_by_the_paper(community, order, m, cap):
    """Algorithm 1 with sets and lists: after every move the queues are looked through again."""
    members = [{v for v, k in enumerate(community) if k == c} for c in range(m)]
    queues = [[] for _ in range(m)]

    def move(node, to):
        left = next(k for k in range(m) if node in members[k])
        members[left].remove(node)
        members[to].add(node)
        if queues[left]:
            move(queues[left].pop(0), left)

    for node, to in order:
        if len(members[to]) < cap:
            move(node, to)
        else:
            queues[to].append(node)
    return [next(k for k in range(m) if v in members[k]) for v in range(len(community))]


@given(st.integers(2, 20), st.integers(2, 5), st.integers(0, 2), st.integers(0, 10**6))
def test_moves_cascade_as_in_the_paper(n, m, slack, seed):
    rng = stream(seed, "moves")
    community = even_start(n, m, rng)
    movers = rng.permutation(n)[: rng.integers(0, n + 1)]
    wanted = (community[movers] + rng.integers(1, m, len(movers))) % m
    cap = -(-n // m) + slack
    order = list(zip(movers.tolist(), wanted.tolist(), strict=True))
    expected = moves_by_the_paper(community.tolist(), order, m, cap)
    found = community.copy()
    moved = move_in_order(found, movers, wanted, m, cap)
    assert found.tolist() == expected
    assert moved == sum(a != b for a, b in zip(community.tolist(), expected, strict=True))


def test_a_cascade_by_hand():
    """Two full communities swap: the first waits until the second has left."""
    community = np.array([0, 0, 1, 1])
    assert move_in_order(community, np.array([0, 2]), np.array([1, 0]), 2, 2) == 0
    community = np.array([0, 0, 1, 2])
    # 0 waits for 1, which is full with cap 1; 2 leaves it for 2, which has room; then 0 moves in.
    assert move_in_order(community, np.array([0, 2]), np.array([1, 2]), 3, 2) == 2
    assert community.tolist() == [1, 0, 2, 2]


def test_isolated_nodes_stay_where_the_lot_put_them():
    graph = Graph.of(np.array([[0, 1], [1, 2]]), 400)
    for method in ("random", "blpa", "blpa-base", "metis", "louvain", "label-propagation"):
        found = divide(method, graph, 4, stream(0, method))
        sizes = np.bincount(found, minlength=4)
        assert sizes.min() >= 80, method  # and not all of them in community 0


@given(st.integers(1, 14), st.integers(1, 5), st.integers(0, 3), st.integers(0, 10**6))
def test_shortest_distances_first_one_by_one(n, m, slack, seed):
    distances = stream(seed, "distances").integers(0, 6, (n, m)) / 2.0
    cap = -(-n // m) + slack
    pairs = sorted(product(range(n), range(m)), key=lambda p: (distances[p], p[0], p[1]))
    cluster, room = {}, [cap] * m
    for node, centre in pairs:
        if node not in cluster and room[centre]:
            cluster[node] = centre
            room[centre] -= 1
    assert shortest_first(distances, cap).tolist() == [cluster[v] for v in range(n)]


@settings(max_examples=25)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 10**6))
def test_the_least_sum_is_that_of_the_hungarian_method(n, m, seed):
    from scipy.optimize import linear_sum_assignment

    distances, cap = stream(seed, "distances").random((n, m)), -(-n // m)
    found = least_sum(distances, cap)
    rows, columns = linear_sum_assignment(np.repeat(distances, cap, axis=1))
    assert distances[np.arange(n), found].sum() == pytest.approx(
        np.repeat(distances, cap, axis=1)[rows, columns].sum()
    )
    assert np.bincount(found, minlength=m).max() <= cap


def test_squared_distances_one_by_one():
    rng = stream(0, "points")
    points, centres = rng.normal(size=(7, 3)), rng.normal(size=(2, 3))
    expected = [[sum((p - c) ** 2) for c in centres] for p in points]
    np.testing.assert_allclose(squared_distances(points, centres), expected)


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_relocation_gains_the_most_within_the_sizes(seed):
    """Every number of movers is tried; the linear programme finds the best."""
    rng = stream(seed, "relocation")
    k, m = 4, 3
    source = rng.integers(0, m, k)
    destination = (source + rng.integers(1, m, k)) % m
    gain, waiting = rng.integers(1, 4, k), rng.integers(1, 4, k)
    sizes, bounds = np.full(m, 4), (3, 5)
    best = 0
    for numbers in product(*(range(w + 1) for w in waiting)):
        after = sizes.copy()
        np.add.at(after, destination, numbers)
        np.subtract.at(after, source, numbers)
        if after.min() >= bounds[0] and after.max() <= bounds[1]:
            best = max(best, int(np.dot(gain, numbers)))
    found = how_many(source, destination, gain, waiting, sizes, bounds)
    after = sizes.copy()
    np.add.at(after, destination, found)
    np.subtract.at(after, source, found)
    assert (found >= 0).all()
    assert (found <= waiting).all()
    assert after.min() >= bounds[0]
    assert after.max() <= bounds[1]
    assert int(np.dot(gain, found)) == best


def test_gains_by_hand():
    graph = Graph.of(np.array([[0, 0, 0], [1, 2, 3]]), 5)
    who, where, gain = gains(graph, np.array([0, 0, 1, 1, 2]), 3, stream(0, "gains"))
    found = sorted(zip(who.tolist(), where.tolist(), gain.tolist(), strict=True))
    # 0 has one neighbour at home and two in 1; 2 and 3 have their only one in 0.
    assert found == [(0, 1, 1), (2, 0, 1), (3, 0, 1)]


def test_whole_communities_are_dealt_out_the_largest_first():
    assert dealt_out([[0], [1, 2, 3], [4, 5]], 6, 2).tolist() == [1, 0, 0, 0, 1, 1]


def test_embeddings_bring_neighbours_together_without_any_label():
    graph = rings(4, 8)
    z = embed(graph, stream(0, "features").normal(size=(32, 6)).astype(np.float32), 0)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-5)
    near = (z[graph.edges[0]] * z[graph.edges[1]]).sum(1).mean()
    assert near > (z @ z.T).mean() + 0.3
    again = embed(graph, stream(0, "features").normal(size=(32, 6)).astype(np.float32), 0)
    np.testing.assert_array_equal(again, z)
    bare = embed(Graph.of(np.zeros((2, 0), int), 3), np.ones((3, 2), np.float32), 0)
    assert np.isfinite(bare).all()


def test_the_loss_of_neighbours_by_hand():
    import torch

    near, far = torch.tensor([0.0, 2.0]), torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    expected = [
        math.log(2) + math.log(1 + math.e) + math.log(2),
        math.log(1 + math.exp(-2)) + math.log(2) + math.log(1 + math.exp(-1)),
    ]
    assert float(neighbour_loss(near, far)) == pytest.approx(sum(expected) / 2, rel=1e-6)


def test_what_is_missing_is_named():
    graph = rings(2, 3)
    with pytest.raises(EngramError, match="divides an embedding"):
        divide("bekm", graph, 2, stream(0, "x"))
    with pytest.raises(EngramError, match="no partitioner 'metys'"):
        divide("metys", graph, 2, stream(0, "x"))

"""A graph whose communities are known: what a partition can find, and what it must not destroy.

Every community holds nodes of all classes, each class in a block of its own. Edges are frequent
inside a block, rarer inside a community and very rare elsewhere; features say little. So a node's
class is told by its block, and a cut through communities takes that away.
"""

import numpy as np
from jaxtyping import Int

from engram.core import EngramError, Split
from engram.parts.graph import graph_split

CHANCES = (0.3, 0.05, 0.0005)
"""Of an edge inside a block, inside a community, and elsewhere."""


def planted_graph(
    n: int,
    rng: np.random.Generator,
    *,
    communities: int = 40,
    classes: int = 7,
    features: int = 32,
    noise: float = 3.0,
    chances: tuple[float, float, float] = CHANCES,
) -> Split:
    """A graph of communities, each with a block for every class.

    Args:
        n: Nodes; blocks are of equal size, give or take one.
        rng: All randomness comes from here.
        communities: How many.
        classes: How many blocks each has.
        features: Numbers of a node: the middle of its class, normal with deviation 1, and noise.
        noise: Deviation of that noise.
        chances: Of an edge inside a block, inside a community, and elsewhere.

    Returns:
        A split "graph" in random order, with `features`, `label` and `node`, beside its graph.

    Raises:
        EngramError: There are fewer nodes than blocks.
    """
    if n < communities * classes:
        raise EngramError(
            f"{n} nodes do not fill {communities} communities of {classes} blocks",
            hint=f"make at least {communities * classes}, or fewer communities",
        )
    block = rng.permutation(np.arange(n) % (communities * classes))
    community, label = np.divmod(block, classes)
    middles = rng.normal(size=(classes, features))
    shown = middles[label] + noise * rng.normal(size=(n, features))
    edges = np.concatenate(
        [_inside(community, block, chances, rng), _between(community, chances[2], rng)], axis=1
    )
    return graph_split("graph", shown.astype(np.float32), label, edges)


def _inside(
    community: Int[np.ndarray, " n"],
    block: Int[np.ndarray, " n"],
    chances: tuple[float, float, float],
    rng: np.random.Generator,
) -> Int[np.ndarray, "2 edges"]:
    """Edges between nodes of one community."""
    found = [np.zeros((2, 0), np.int64)]
    for number in range(int(community.max()) + 1):
        members = np.flatnonzero(community == number)
        low, high = np.triu_indices(len(members), 1)
        low, high = members[low], members[high]
        chance = np.where(block[low] == block[high], chances[0], chances[1])
        there = rng.random(len(low)) < chance
        found.append(np.stack([low[there], high[there]]))
    return np.concatenate(found, axis=1)


def _between(
    community: Int[np.ndarray, " n"], chance: float, rng: np.random.Generator
) -> Int[np.ndarray, "2 edges"]:
    """Edges between communities: as many pairs by lot as there would be, those inside left out."""
    n = len(community)
    ends = rng.integers(0, n, (2, rng.binomial(n * (n - 1) // 2, chance)))
    return ends[:, community[ends[0]] != community[ends[1]]]

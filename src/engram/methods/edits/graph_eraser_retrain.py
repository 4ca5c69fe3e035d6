"""Delete nodes and edges exactly: train the shards that saw them again, and weigh all shards anew.

A node lies in one shard of a graph that was cut by `graph-eraser`. No other shard ever saw it or
one of its edges, so only this one is trained again, on the same nodes but this one and on the same
edges but those that ended there. An edge was seen by a shard only if both of its ends lie there; an
edge that the cut went through was seen by none, and takes no training. What saw everybody are the
weights of the shards, which are learnt again every time.

    w'_k = train(nodes of k but the deleted; edges among them but the deleted)   k saw one of them
    w'_k = w_k                                                                   all other shards
    alpha' = argmin over G0' of CE + lambda ||alpha||_2

Many nodes and edges are deleted in one go: a shard is trained again at most once. A shard whose
last node leaves is empty and has no say any more; a class whose last node leaves stays among the
answers. Of a deleted edge the target keeps a pseudonym, so that it stays deleted where a shard is
trained again later, from data that may still hold it. Answers are about the graph that is asked
about: take deleted nodes and edges out of that too.

Differs from the paper: 1. The weights are learnt again after every deletion, since they depend on
every shard; in the paper only if the node was in the sample G0. 2. The nodes are not divided anew.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from engram.core import Draft, EngramError, Paper, Run, Split, Target
from engram.families.graph_nodes import GraphModel
from engram.parts.forgotten_edges import FORGOTTEN, NamedEdges, pieces, told_of, without_forgotten
from engram.parts.graph import graph_beside, nodes_of
from engram.parts.graph_eraser_training import GraphEraserTraining
from engram.parts.own_settings import made_by
from engram.parts.shard_requests import check_kept
from engram.parts.sharded_models import ShardedModel
from engram.parts.sharding import Placement
from engram.parts.sisa_training import joined
from engram.parts.unlearning import check_forget

EXTRA_FOR = {"graph": "any architecture but mlp"}


@dataclass(frozen=True)
class GraphEraserRetrain:
    """Exact deletion of nodes and edges from a graph model in shards."""

    paper: ClassVar[Paper] = Paper(
        title="Graph Unlearning",
        authors="Chen et al.",
        year=2022,
        url="https://arxiv.org/abs/2103.14991",
    )
    promise: ClassVar[str] = "exact"
    families: ClassVar[frozenset[str]] = frozenset({"sharded-graph"})

    edges: str = ""
    """Edges to delete, by the numbers of the nodes at their ends, or by their ids where the graph
    was read from files of the user: 17-25,3-9. Empty: none."""

    def __post_init__(self) -> None:
        pieces(self.edges)

    def told(self) -> dict[str, Any]:
        """Its fields as they may be written down: edges that are deleted by their pseudonyms."""
        return {**asdict(self), "edges": ",".join(told_of(self.edges))}

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return the model that would be there if `forget` and the edges had never been.

        Raises:
            EngramError: There is nothing to delete; a node was never placed in a shard; an edge is
                not in the graph, or no training saw it; or the target does not carry the recipe
                that made it.
        """
        edges = NamedEdges.of(self.edges, keep)
        if not len(edges) or forget is not None:
            forget = check_forget("graph-eraser-retrain", keep, forget)
        model: ShardedModel = target.model
        training, seed = made_by(target, GraphEraserTraining, "graph-eraser")
        gone = forget.ids if forget is not None else ()
        rest = model.placement.without(gone)
        known = model.extra.get(FORGOTTEN, np.zeros(0, np.int64))
        check_kept(rest, keep, target.name)
        changed = set(model.placement.shard[model.placement.rows(gone)].tolist())
        changed |= shards_of(edges, rest, keep)
        records = without_forgotten(keep, [*known.tolist(), *edges.marks])
        classes = model.shards[model.alive[0]].layout.classes
        networks = [part and part.model for part in model.shards]
        traces = []
        for k in sorted(changed):
            networks[k], found = training.train_shard(k, records, rest, classes, run, seed=seed)
            traces.append(found.trace)
        weights = training.weigh(networks, records, rest, seed=seed)
        new = replace(
            model,
            shards=tuple(n and GraphModel(n) for n in networks),
            placement=rest,
            weights=weights,
            extra={**model.extra, **kept_marks([*known.tolist(), *edges.marks])},
        )
        return Draft(target.family, new, joined(traces), promised(len(gone), len(edges), changed))


def shards_of(edges: NamedEdges, placement: Placement, keep: Split) -> set[int]:
    """The shards in which both ends of one of these edges lie.

    Raises:
        EngramError: An edge is not in the graph, or one of its ends was not trained on.
    """
    if not len(edges):
        return set()
    graph, _ = graph_beside(keep)
    edges.check(graph)
    nodes = nodes_of(keep, graph.nodes).tolist()
    record = dict(zip(nodes, keep.ids, strict=True))
    for node in edges.ends.reshape(-1).tolist():
        if node not in record:
            raise EngramError(
                f"node {node} is not among the records that are kept, so no shard saw its edges",
                hint="an edge to a node that was not trained on, or is deleted itself, needs no "
                "request",
            )
    lies = [
        placement.shard[placement.rows([record[n] for n in end])] for end in edges.ends.tolist()
    ]
    return set(lies[0][lies[0] == lies[1]].tolist())


def kept_marks(marks: Sequence[int]) -> dict[str, np.ndarray]:
    """What is kept of deleted edges; nothing where none was."""
    return {FORGOTTEN: np.unique(np.array(marks, np.int64))} if len(marks) else {}


def promised(records: int, edges: int, shards: set[int]) -> dict[str, Any]:
    """What may be said of the weights."""
    return {
        "kind": "exact",
        "value": 0.0,
        "sentence": f"exact: the {len(shards)} shards that saw the {records} nodes and {edges} "
        "edges were trained again without them, and the weights of all shards learnt anew",
    }

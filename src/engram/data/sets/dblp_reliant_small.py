"""39,424 authors who wrote papers together, without their words, in 8 fields: a graph."""

from collections.abc import Mapping

import numpy as np

from engram.core.split import Split
from engram.data.named import DataSet
from engram.data.parsing import arrays_of
from engram.parts.graph import Graph, graph_split, structural_features

FILE = "dblp_small.npz"
ABOUT = DataSet(
    folder="dblp_reliant_small",
    source="github.com/yushundong/RELIANT at f402922 (data/small/)",
    licence="none stated at the top level; its README invites use with citation",
    files={FILE: "99e8e3af1d368946db5693d6bb327eb4c1696daea25245434173175191b21e69"},
    made="npz with `labels`, `edges` of shape (52460, 2) and `sens`, from the text files",
)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record an author; its features are made of the whole graph, held-out authors included."""
    arrays = arrays_of(files[FILE])
    labels, edges = arrays["labels"].astype(np.int64), arrays["edges"].T
    features = structural_features(Graph.of(edges, len(labels)))
    return graph_split("dblp-reliant-small", features, labels, edges)

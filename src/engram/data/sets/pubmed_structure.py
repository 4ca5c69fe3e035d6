"""19,717 papers on diabetes that cite each other, without their words, in 3 kinds: a graph."""

from collections.abc import Mapping

import numpy as np

from engram.core.split import Split
from engram.data.named import DataSet
from engram.data.parsing import arrays_of
from engram.parts.graph import Graph, graph_split, structural_features

FILE = "pubmed_structure.npz"
ABOUT = DataSet(
    folder="pubmed_structure",
    source="github.com/kimiyoung/planetoid at af6abf4 (data/ind.pubmed.{graph,ally,ty,test.index})",
    licence="MIT",
    files={FILE: "57b5569648fa5d2ac398345d1e1bdaad17e6f5fa82bae97981fa1b487387c79b"},
    made="npz with `labels` and `edges` of shape (44324, 2), without self-loops and copies",
)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record a paper; its features are made of the whole graph, held-out papers included."""
    arrays = arrays_of(files[FILE])
    labels, edges = arrays["labels"].astype(np.int64), arrays["edges"].T
    features = structural_features(Graph.of(edges, len(labels)))
    return graph_split("pubmed-structure", features, labels, edges)

"""Classifiers of nodes in shards, each of which saw a part of the graph."""

from engram.families import graph_nodes
from engram.parts.sharded_models import Sharded

FAMILY = Sharded("sharded-graph", graph_nodes.FAMILY)

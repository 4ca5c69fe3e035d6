"""Classifiers of the nodes of a graph: small graph networks of PyTorch Geometric's layers."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from engram.core import SCORED, EngramError, Finding, Split
from engram.families.classifier import cross_entropy
from engram.parts.fingerprints import arrays_fingerprint, weights
from engram.parts.graph import CONTEXT, NODE, OUTSIDE, graph_beside, nodes_of
from engram.parts.graph_examples import Asked, GraphExamples
from engram.parts.graph_networks import GraphLayout, GraphNetwork
from engram.parts.labelled import (
    check_labelled_split,
    label_quality,
    labels_of,
    neighbours,
    noise_records,
    rendered,
)
from engram.parts.model_folder import read_config

CONFIG, WEIGHTS = "config.json", "model.safetensors"
KIND = "engram-graph-nodes"


@dataclass(frozen=True, eq=False)
class GraphModel:
    """A network on nodes and edges. It holds neither: the graph comes with the question."""

    model: GraphNetwork

    @property
    def layout(self) -> GraphLayout:
        """What the network is made from."""
        return self.model.layout

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.mean.device


class GraphNodes:
    """The family of classifiers of nodes.

    A record is asked about in the whole graph that its split carries. What is said of it depends
    on that graph and on the record, and not on which other records are asked about.
    """

    name = "graph-nodes"
    answers = frozenset({"losses", "logits"})
    context = CONTEXT
    """What of `shared` decides the answers."""

    def check(self, split: Split) -> None:
        """Raise where a split lacks its graph, or `features`, `label` and `node` of its records."""
        check_labelled_split(split)
        graph, _ = graph_beside(split)
        nodes_of(split, graph.nodes)

    def load(self, where: str | Path, device: str = "cpu") -> GraphModel:
        """Open a folder that `save` wrote; architectures are found by name in a fixed table.

        Raises:
            EngramError: The folder is not one of ours, or its files are damaged.
        """
        folder = Path(where)
        if not (folder / CONFIG).is_file():
            raise EngramError(
                f"{folder} holds no classifier of nodes: it has no {CONFIG}",
                hint="`engram train train-graph-nodes` makes one",
            )
        network = _layout(folder).build()
        try:
            network.load_state_dict(load_file(folder / WEIGHTS))
        except (SafetensorError, OSError, RuntimeError) as problem:
            said = " ".join(str(problem).split())[:160]
            raise EngramError(
                f"{folder / WEIGHTS} does not hold the weights of {CONFIG} ({said})",
                hint="the files may be damaged; copy the folder again, or train again",
            ) from None
        return GraphModel(network.to(device).eval())

    def save(self, model: GraphModel, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: v.contiguous().cpu() for k, v in model.model.state_dict().items()}
        save_file(state, folder / WEIGHTS)
        record = {"kind": KIND, **asdict(model.layout)}
        (folder / CONFIG).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def fingerprint(self, model: GraphModel) -> str:
        """Hash of weights and layout."""
        return arrays_fingerprint(weights(model.model), asdict(model.layout))

    def describe(self, model: GraphModel) -> Mapping[str, Any]:
        """Architecture, size, features of a node, classes, and how far it sees."""
        layout = model.layout
        return {
            "architecture": layout.architecture,
            "parameters": sum(p.numel() for p in model.model.parameters()),
            "features": layout.features,
            "classes": layout.classes,
            "hops": 0 if layout.architecture == "mlp" else layout.layers,
        }

    def outcomes(self, model: GraphModel, split: Split) -> tuple[str, ...]:
        """Every record that passes `check` can be asked about."""
        return (SCORED,) * len(split)

    def examples(self, model: GraphModel, split: Split) -> GraphExamples:
        """The records in the graph that their split carries, as they are asked about."""
        return GraphExamples.of(model.model, split)

    def logits(self, model: GraphModel, split: Split) -> Float[np.ndarray, "n classes"]:
        """Class logits of each record, by one pass over the graph."""
        if not len(split):
            return np.empty((0, model.layout.classes), np.float64)
        asked = Asked.of(split, model.layout.features)
        model.model.eval()
        with torch.inference_mode():
            said = model.model(
                torch.from_numpy(asked.features).to(model.device),
                torch.from_numpy(asked.arcs).to(model.device),
            )
        return said.double().cpu().numpy()[asked.rows]

    def losses(self, model: GraphModel, split: Split) -> Float[np.ndarray, " n"]:
        """Cross-entropy of each record, in nats."""
        labels = labels_of(split, model.layout.classes)
        return cross_entropy(self.logits(model, split), labels)

    def quality(
        self, model: GraphModel, split: Split, rng: np.random.Generator
    ) -> tuple[Finding, ...]:
        """Accuracy and log-loss."""
        logits, labels = self.logits(model, split), labels_of(split, model.layout.classes)
        return label_quality(logits, cross_entropy(logits, labels), labels, rng)

    def perturb(self, split: Split, strength: float, rng: np.random.Generator) -> Split:
        """Resample a share of each node's own features; edges and other nodes stay."""
        return neighbours(split, strength, rng)

    def canaries(
        self, n: int, rng: np.random.Generator, *, features: int = 64, classes: int = 10
    ) -> Split:
        """Nodes without edges, of pure noise with a random label."""
        plain = noise_records(n, features, classes, rng)
        table = plain.to_table().append_column(NODE, pa.array([OUTSIDE] * n, pa.int64()))
        return Split.from_table(plain.name, table.drop_columns(["id"]))

    def render(self, split: Split, row: int) -> str:
        """Its node, how many neighbours it has, its label and first features."""
        graph, _ = graph_beside(split)
        node = int(nodes_of(split.take([row]), graph.nodes)[0])
        about = "in no graph" if node == OUTSIDE else f"{graph.degrees[node]} neighbours"
        return f"node {node} ({about}), {rendered(split, row)}"


def _layout(folder: Path) -> GraphLayout:
    record = read_config(folder / CONFIG)
    known = {f.name for f in fields(GraphLayout)}
    if record.pop("kind", None) != KIND or set(record) != known:
        raise EngramError(
            f"{folder / CONFIG} does not describe a classifier of nodes of ours",
            hint="a classifier of arrays is opened as family classifier",
        )
    return GraphLayout(**record)


FAMILY = GraphNodes()

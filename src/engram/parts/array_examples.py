"""Records of numbers beside the network that is to learn or forget them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.parts.networks import Network
from engram.parts.predictions import Predictions
from engram.parts.soft_labels import SoftLabels
from engram.parts.training import shuffled_batches


@dataclass(frozen=True, eq=False)
class ArrayExamples:
    """Records beside the network that is to learn or forget them."""

    model: Network
    features: Float[np.ndarray, "n features"]
    labels: Int[np.ndarray, " n"]
    soft: SoftLabels | None = None
    """What is to be learnt instead of the labels, if anything."""

    @property
    def counts(self) -> Int[np.ndarray, " n"]:
        """One prediction each."""
        return np.ones(len(self.labels), np.int64)

    @property
    def answers(self) -> int:
        """Classes."""
        return self.model.layout.classes

    def nll(self, rows: Int[np.ndarray, " rows"]) -> Float[Tensor, " rows"]:
        """Cross-entropy of each record in nats, or what soft labels say is lost."""
        device = self.model.mean.device
        logits = self.model(torch.from_numpy(self.features[rows]).to(device))
        if self.soft is not None:
            return self.soft.losses(logits.float(), rows)
        labels = torch.from_numpy(self.labels[rows]).to(device)
        return nn.functional.cross_entropy(logits.float(), labels, reduction="none")

    def predictions(
        self, rows: Int[np.ndarray, " rows"], model: Network | None = None
    ) -> Predictions:
        """What the network (or another one) says of each record."""
        model = self.model if model is None else model
        device = model.mean.device
        logits = model(torch.from_numpy(self.features[rows]).to(device))
        labels = torch.from_numpy(self.labels[rows]).to(device)
        place = torch.arange(len(rows), device=device)
        return Predictions(logits.float(), labels, place, torch.zeros_like(place), len(rows))

    def chunks(self, rows: Int[np.ndarray, " rows"]) -> Iterator[Int[np.ndarray, " _"]]:
        """The batch whole: its records are small."""
        yield rows

    def order(self, batch_size: int, rng: np.random.Generator) -> list[Int[np.ndarray, " _"]]:
        """One epoch of batches."""
        return shuffled_batches(self.counts, batch_size, rng)

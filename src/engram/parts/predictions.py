"""What a model says at each place where it is to predict something, and nowhere else.

Padding and prompts are left out before any loss sees them, so none can enter a mean.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of a batch, one after another.

    Attributes:
        logits: Of every answer at each prediction; (predictions, answers).
        labels: The true answer.
        place: The row of the batch that each prediction belongs to.
        time: The position in that row whose output makes it (0 for classifiers).
        rows: Rows in the batch.
    """

    logits: Float[Tensor, "predictions answers"]
    labels: Int[Tensor, " predictions"]
    place: Int[Tensor, " predictions"]
    time: Int[Tensor, " predictions"]
    rows: int

    @cached_property
    def logprobs(self) -> Float[Tensor, "predictions answers"]:
        """Log-probability of every answer, in nats."""
        return torch.log_softmax(self.logits, -1)

    @cached_property
    def logprob(self) -> Float[Tensor, " predictions"]:
        """Log-probability of the true answer, in nats."""
        return self.logprobs.gather(1, self.labels[:, None]).squeeze(1)

    @cached_property
    def counts(self) -> Int[Tensor, " rows"]:
        """Predictions of each row."""
        return torch.bincount(self.place, minlength=self.rows)

    @property
    def record_logprob(self) -> Float[Tensor, " rows"]:
        """Log-probability of each whole row: the sum over its predictions."""
        return self.sums(self.logprob)

    @property
    def nll(self) -> Float[Tensor, " rows"]:
        """Mean negative log-likelihood of each row per prediction, in nats."""
        return self.means(-self.logprob)

    def sums(self, values: Float[Tensor, " predictions"]) -> Float[Tensor, " rows"]:
        """The sum over each row's predictions."""
        return values.new_zeros(self.rows).index_add(0, self.place, values)

    def means(self, values: Float[Tensor, " predictions"]) -> Float[Tensor, " rows"]:
        """The mean over each row's predictions."""
        return self.sums(values) / self.counts.clamp(min=1)


def divergences(
    before: Float[Tensor, "predictions answers"], now: Float[Tensor, "predictions answers"]
) -> Float[Tensor, " predictions"]:
    """KL(softmax(before) || softmax(now)) of each prediction, in nats, from logits."""
    old, new = torch.log_softmax(before, -1), torch.log_softmax(now, -1)
    return (old.exp() * (old - new)).sum(-1)

"""Per-record gradients of language models: clipped, whoever's records they are, in small parts.

A unit of privacy is a record, or an owner with all records. Its gradient is that of its mean loss
a token, over every piece of every record that it has, and it is clipped as one vector: a weight
that is used twice (tied embeddings) gets both contributions before. Two routes lead there, as in
`per_record`; which one a model can take is tried out before training begins.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from engram.core import EngramError
from engram.parts.per_record import (
    MEMORY,
    RecordLoss,
    clipped_sum,
    clipped_sum_one_by_one,
    per_record_gradients,
    trainable,
)
from engram.parts.token_examples import IGNORED, LOGITS, TokenExamples

CLOSE = 1e-4
"""Largest difference of the two routes' gradients, as a share of their size."""

Pieces = Int[np.ndarray, " _"]


def units_of(
    record: Int[np.ndarray, " pieces"], records: int, owners: Sequence[str] | None
) -> tuple[Pieces, ...]:
    """The pieces of each unit: of each record, or of each owner where owners are given.

    Args:
        record: Which record each piece is from.
        records: How many there are; one without pieces is a unit without pieces.
        owners: Of every record; None: every record is a unit of its own.
    """
    if owners is None:
        unit, count = np.arange(records), records
    else:
        names, unit = np.unique(np.asarray(owners, object).astype(str), return_inverse=True)
        count = len(names)
    of_piece = unit[record]
    order = np.argsort(of_piece, kind="stable")
    ends = np.cumsum(np.bincount(of_piece, minlength=count))[:-1]
    return tuple(np.split(order, ends))


@dataclass(frozen=True, eq=False)
class ClippedUnits:
    """The sum over a lot of units of gradients of norm at most `clip`.

    Attributes:
        examples: Pieces of records, beside the model.
        units: The pieces of each unit.
        clip: Largest norm of a unit's gradient.
        batched: Whether many units are differentiated at once.
    """

    examples: TokenExamples
    units: Sequence[Pieces]
    clip: float
    batched: bool

    def __call__(self, lot: Int[np.ndarray, " lot"]) -> dict[str, Float[Tensor, "..."]]:
        """By parameter; units without a predicted token add nothing."""
        model, counts = self.examples.model, self.examples.counts
        names = trainable(model)
        asked = [self.units[row] for row in lot if counts[self.units[row]].sum()]
        if not self.batched:
            chosen = [dict(model.named_parameters())[name] for name in names]
            losses = (unit_loss(self.examples, pieces) for pieces in asked)
            return dict(zip(names, clipped_sum_one_by_one(losses, chosen, self.clip), strict=True))
        total: dict[str, Tensor] = {}
        for part in self._parts(asked):
            gradients = batched_gradients(self.examples, part)
            for name, summed in clipped_sum(gradients, self.clip).items():
                total[name] = total[name] + summed if name in total else summed
        return total

    def _parts(self, asked: Sequence[Pieces]) -> Iterator[list[Pieces]]:
        """Units of like size together, so many that gradients and logits fit into memory."""
        model, lengths = self.examples.model, self.examples.lengths
        size = sum(p.numel() for p in model.parameters() if p.requires_grad)
        most = max(1, MEMORY // max(size, 1))

        def logits(units: Sequence[Pieces]) -> int:
            pieces, width = max(map(len, units)), max(int(lengths[u].max()) for u in units)
            return len(units) * pieces * width * self.examples.answers

        part: list[Pieces] = []
        for unit in sorted(asked, key=lambda unit: (len(unit), int(lengths[unit].max()))):
            if part and (len(part) == most or logits([*part, unit]) > LOGITS):
                yield part
                part = []
            part.append(unit)
        if part:
            yield part


def unit_loss(examples: TokenExamples, pieces: Pieces) -> Float[Tensor, ""]:
    """Mean negative log-likelihood a token over all pieces of one unit; differentiable."""
    parts = [examples.nll(chunk).sum() for chunk in examples.chunks(pieces)]
    return torch.stack(parts).sum() / int(examples.counts[pieces].sum())


def batched_gradients(
    examples: TokenExamples, units: Sequence[Pieces]
) -> dict[str, Float[Tensor, "units ..."]]:
    """The gradient of each unit's mean loss, all at once."""
    device = next(examples.model.parameters()).device
    tokens, labels = (t.to(device) for t in padded_units(examples, units))
    with sdpa_kernel(SDPBackend.MATH):  # the others have no rule for `vmap`
        loss = padded_loss(examples.smoothing)
        return per_record_gradients(examples.model, loss, (tokens, labels))[0]


def padded_units(
    examples: TokenExamples, units: Sequence[Pieces]
) -> tuple[Int[Tensor, "units pieces time"], Int[Tensor, "units pieces time"]]:
    """Tokens and labels of units, filled up with `IGNORED` to one number of pieces and tokens."""
    tokens, labels = examples.padded(np.concatenate(list(units)))
    shape = (len(units), max(map(len, units)), tokens.shape[1])
    filled = tuple(torch.full(shape, IGNORED) for _ in range(2))
    first = 0
    for place, unit in enumerate(units):
        last = first + len(unit)
        for whole, given in zip(filled, (tokens, labels), strict=True):
            whole[place, : len(unit)] = given[first:last]
        first = last
    return filled[0], filled[1]


def padded_loss(smoothing: float = 0.0) -> RecordLoss:
    """Mean loss a token of one unit, as a function of its padded tokens and labels."""

    def loss(call: Callable[..., Any], tokens: Tensor, labels: Tensor) -> Float[Tensor, ""]:
        tokens, labels = tokens[0], labels[0]  # one unit: its pieces are the batch
        # Filling stands on the right, where no token that counts looks. A mask with all
        # dimensions is taken as it is; a plain one is looked at in ways `vmap` does not allow.
        steps = tokens.shape[1]
        ahead = torch.ones(steps, steps, dtype=torch.bool, device=tokens.device).triu(1)
        lowest = torch.finfo(torch.float32).min
        mask = torch.zeros(steps, steps, device=tokens.device).masked_fill(ahead, lowest)
        logits = call(
            input_ids=tokens.clamp(min=0),
            attention_mask=mask.expand(len(tokens), 1, steps, steps),
            use_cache=False,
        ).logits
        losses = nn.functional.cross_entropy(
            logits.flatten(0, 1).float(),
            labels.flatten(),
            ignore_index=IGNORED,
            reduction="none",
            label_smoothing=smoothing,
        )
        return losses.sum() / (labels != IGNORED).sum()

    return loss


def can_be_batched(examples: TokenExamples, units: Sequence[Pieces]) -> bool:
    """Whether both routes give the same gradients, tried on the two shortest units.

    Some models look at their own inputs in ways that `vmap` does not allow, or build their mask
    themselves; for those, one unit after another is the way.
    """
    counts = examples.counts
    asked = sorted((u for u in units if counts[u].sum()), key=lambda unit: int(counts[unit].sum()))[
        :2
    ]
    if not asked:
        raise EngramError(
            "none of the records has a token to learn", hint="a text needs at least two tokens"
        )
    was = examples.model.training
    examples.model.eval()  # without dropout, which no two routes draw alike
    try:
        found = batched_gradients(examples, asked)
    except (RuntimeError, ValueError, TypeError, NotImplementedError):
        return False
    finally:
        examples.model.train(was)
    examples.model.eval()
    chosen = [dict(examples.model.named_parameters())[name] for name in found]
    try:
        for place, unit in enumerate(asked):
            plain = torch.autograd.grad(
                unit_loss(examples, unit), chosen, allow_unused=True, materialize_grads=True
            )
            for own, other in zip(found.values(), plain, strict=True):
                gap = (own[place] - other).abs().max()
                if not gap <= CLOSE * max(float(other.abs().max()), 1e-3):
                    return False
    finally:
        examples.model.train(was)
    return True

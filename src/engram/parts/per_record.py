"""The gradient of each record's own loss: its norm, and sums in which no record counts for much.

Two ways to the same numbers. `torch.func` differentiates all records of a batch at once, for
networks of plain tensor operations. One record at a time works for every model, a published
language model with its own masking included; on a processor it is as fast for all but tiny ones.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import inf, prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from engram.core import EngramError

RecordLoss = Callable[..., Float[Tensor, ""]]
"""`loss(call, *fields)`: the loss of one record, whose fields come as a batch of one; `call` is
the model."""
Gradients = Mapping[str, Float[Tensor, "batch ..."]]
"""One gradient a record, by the parameter's name."""
MEMORY = 2**25
"""Most numbers in the gradients that are held at once."""
ORDERS = (1.0, 2.0, inf)


def trainable(model: nn.Module) -> tuple[str, ...]:
    """The names of the parameters that training would change."""
    return tuple(name for name, p in model.named_parameters() if p.requires_grad)


def per_record_gradients(
    model: nn.Module,
    loss: RecordLoss,
    batch: tuple[Tensor, ...],
    names: Sequence[str] | None = None,
) -> tuple[dict[str, Float[Tensor, "batch ..."]], Float[Tensor, " batch"]]:
    """The gradient and the loss of every record, by vmap over `torch.func.grad`.

    The model must not mix records (no batch normalisation), and dropout is drawn record by record.

    Args:
        model: Any module of plain tensor operations.
        loss: Of one record.
        batch: The fields of the records; the first dimension of each counts records.
        names: The parameters to differentiate by; those that training would change.
    """
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    chosen = tuple(trainable(model) if names is None else names)
    fixed = {name: p for name, p in parameters.items() if name not in chosen}
    fixed |= dict(model.named_buffers())

    def of_one(moved: dict[str, Tensor], *fields: Tensor) -> Tensor:
        def call(*args: Any, **kwargs: Any) -> Any:
            return functional_call(model, {**fixed, **moved}, args, kwargs)

        return loss(call, *(field.unsqueeze(0) for field in fields))

    over_records = (None, *(0 for _ in batch))
    function = vmap(grad_and_value(of_one), in_dims=over_records, randomness="different")
    return function({name: parameters[name] for name in chosen}, *batch)


def in_chunks(
    model: nn.Module, batch: tuple[Tensor, ...], names: Sequence[str] | None = None
) -> Iterator[tuple[Tensor, ...]]:
    """The batch in parts whose per-record gradients stay below `MEMORY` numbers."""
    chosen = set(trainable(model) if names is None else names)
    size = sum(prod(p.shape) for name, p in model.named_parameters() if name in chosen)
    step = max(1, MEMORY // max(size, 1))
    for first in range(0, len(batch[0]), step):
        yield tuple(field[first : first + step] for field in batch)


def gradient_norms(gradients: Gradients, order: float = 2.0) -> Float[Tensor, " batch"]:
    """The norm of each record's gradient over all parameters together.

    Args:
        gradients: One gradient a record, by parameter.
        order: 1 (sum of magnitudes), 2 (Euclidean) or infinity (largest magnitude).
    """
    check_order(order)
    # The norm of the norms of the pieces is the norm of the whole, for each of these orders.
    pieces = [torch.linalg.vector_norm(g.flatten(1), order, dim=1) for g in gradients.values()]
    return torch.linalg.vector_norm(torch.stack(pieces, 1), order, dim=1)


def per_record_gradient_norms(
    model: nn.Module,
    loss: RecordLoss,
    batch: tuple[Tensor, ...],
    names: Sequence[str] | None = None,
    order: float = 2.0,
) -> Float[Tensor, " batch"]:
    """The norm of the gradient of each record's loss; see `per_record_gradients`."""
    check_order(order)
    found = [
        gradient_norms(per_record_gradients(model, loss, part, names)[0], order)
        for part in in_chunks(model, batch, names)
    ]
    return torch.cat(found) if found else torch.zeros(0)


def clipped_sum(gradients: Gradients, limit: float) -> dict[str, Float[Tensor, "*shape"]]:
    """The sum over records of gradients that are shortened to a norm of at most `limit`.

    g_i / max(1, |g_i| / limit), summed: Abadi et al. (2016), Algorithm 1, "clip gradient".
    """
    check_limit(limit)
    scale = limit / gradient_norms(gradients).clamp(min=limit)
    return {name: torch.einsum("b,b...->...", scale, g) for name, g in gradients.items()}


def norms_one_by_one(
    losses: Iterable[Float[Tensor, ""]], parameters: Sequence[Tensor], order: float = 2.0
) -> Float[Tensor, " records"]:
    """Gradient norms of any model: `losses` makes one record's loss after another."""
    check_order(order)
    found = []
    for each in losses:
        gradients = _gradient(each, parameters)
        found.append(gradient_norms({str(i): g[None] for i, g in enumerate(gradients)}, order))
    return torch.cat(found) if found else torch.zeros(0)


def clipped_sum_one_by_one(
    losses: Iterable[Float[Tensor, ""]], parameters: Sequence[Tensor], limit: float
) -> list[Float[Tensor, "*shape"]]:
    """`clipped_sum` for any model, in the order of `parameters`; zeros where there is no record."""
    check_limit(limit)
    total = [torch.zeros_like(p) for p in parameters]
    for each in losses:
        gradients = {str(i): g[None] for i, g in enumerate(_gradient(each, parameters))}
        for place, one in enumerate(clipped_sum(gradients, limit).values()):
            total[place] += one
    return total


def layer_names(model: nn.Module, last: int) -> tuple[str, ...]:
    """The names of the last `last` trainable parameter tensors, in the order of the model."""
    return tuple(islice(reversed(trainable(model)), last))[::-1]


def check_order(order: float) -> None:
    """Refuse a norm that is none of the three."""
    if order not in ORDERS:
        raise EngramError(
            f"the order of the norm is {order}, but must be 1, 2 or inf", hint="2 is usual"
        )


def check_limit(limit: float) -> None:
    """Refuse a clipping norm that is not above 0 and finite."""
    if not 0 < limit < inf:
        raise EngramError(
            f"the clipping norm is {limit}, but must be above 0 and finite", hint="1 is usual"
        )


def _gradient(loss: Float[Tensor, ""], parameters: Sequence[Tensor]) -> list[Tensor]:
    """A parameter that the loss does not depend on has a gradient of zeros."""
    found = torch.autograd.grad(loss, list(parameters), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]

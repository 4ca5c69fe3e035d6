"""Token statistics from hidden states, without ever writing whole logits.

The output head is applied to a few hundred positions at a time, and each chunk of logits is
reduced while it is still in the processor's cache:

    z = head(h),  log p = z - logsumexp(z)
    logprob = log p(true)     mean = sum p log p     deviation = sqrt(sum p (log p - mean)^2)

Two routes give the same numbers: `numba` (a fused kernel; the extra `fast`) and `torch` (a few
passes over each chunk, on any device, with no compiler).
"""

import platform
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from engram.core import EngramError, nearest

Route = Literal["auto", "numba", "torch"]
ROUTES: tuple[Route, ...] = ("auto", "numba", "torch")
CPU_CHUNK, GPU_CHUNK = 2**22, 2**26
"""Logits in one chunk: small enough for the caches, large enough for a fast matrix product."""
FEWEST, MOST = 128, 256
"""Rows in a chunk on a processor: outside these, the product or the reduction slows down."""
EVEN = 32
"""The last chunk's rows are made a multiple of this."""
BLOCK = 256
"""Numbers summed in float32 before the sum is added up in float64."""
SMALLEST = -87.0
"""exp of less is taken as exp(-87) = 1e-38: no weight, and no infinity times zero."""
CANCELLED = 625.0
"""Where mean^4 exceeds this many variances, E[w^2] - E[w]^2 would lose the sixth decimal."""


@dataclass(frozen=True, eq=False)
class TokenRows:
    """What the model says of each position; all arrays have shape (n,).

    Attributes:
        logprob: Natural log-probability of the true token.
        mean: Mean of log p under p: minus the entropy, in nats.
        deviation: Standard deviation of log p under p, in nats.
        rank: Tokens with a strictly larger logit than the true one.
        greedy: Whether greedy decoding takes the true token: of several largest logits it takes
            the first, as `argmax` does, so that rank 0 alone is not enough.
    """

    logprob: Float[np.ndarray, " n"]
    mean: Float[np.ndarray, " n"]
    deviation: Float[np.ndarray, " n"]
    rank: Int[np.ndarray, " n"]
    greedy: Bool[np.ndarray, " n"]

    @classmethod
    def empty(cls, n: int) -> "TokenRows":
        """Columns of `n` rows, to be filled."""
        logprob, mean, deviation = np.empty((3, n), np.float32)
        return cls(logprob, mean, deviation, np.empty(n, np.int32), np.empty(n, np.bool_))

    def part(self, rows: slice) -> "TokenRows":
        """A view of some rows."""
        logprob, mean, deviation, rank, greedy = (column[rows] for column in self.columns())
        return TokenRows(logprob, mean, deviation, rank, greedy)

    def columns(self) -> Iterator[np.ndarray]:
        """The five columns, in the order above."""
        return (getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, eq=False)
class Head:
    """The last layer of a language model: logits = cap(scale * (weight @ hidden + bias)).

    Attributes:
        weight: One row a token of the vocabulary.
        bias: Added to the logits, if there is one.
        scale: Multiplies the logits (Cohere, Granite).
        softcap: The logits become softcap * tanh(logits / softcap) (Gemma 2).
    """

    weight: Float[Tensor, "vocabulary width"]
    bias: Float[Tensor, " vocabulary"] | None = None
    scale: float = 1.0
    softcap: float | None = None

    @property
    def vocabulary(self) -> int:
        """Tokens of the vocabulary."""
        return self.weight.shape[0]

    def logits(self, hidden: Float[Tensor, "n width"]) -> Float[Tensor, "n vocabulary"]:
        """Logits of these positions, in the model's number type."""
        z = _product(hidden, self.weight, self.bias)
        if self.scale != 1:
            z = z.mul_(self.scale)
        if self.softcap:
            z = z.div_(self.softcap).tanh_().mul_(self.softcap)
        return z


def reduce_hidden(
    hidden: Float[Tensor, "n width"],
    head: Head,
    true_token: Int[Tensor, " n"],
    *,
    route: Route = "auto",
    rows: int = 0,
) -> TokenRows:
    """Reduce the logits of each position to five numbers, a chunk of positions at a time.

    Args:
        hidden: Last hidden states, in the model's number type and on its device.
        head: The model's output head.
        true_token: The token that followed at each position.
        route: "numba", "torch", or the better one that is there.
        rows: Positions in a chunk; 0 takes what suits the vocabulary.

    Raises:
        EngramError: The route is unknown, or not to be had here.
    """
    rows = rows or chunk_rows(head.vocabulary, hidden.device.type)
    reducer = _reducer(pick_route(route, hidden.device.type))
    out = TokenRows.empty(len(hidden))
    with torch.inference_mode():
        for part in _even_parts(len(hidden), rows):
            reducer(head.logits(hidden[part]), true_token[part], out.part(part))
    return out


def reduce_logits(
    logits: Float[Tensor, "n vocabulary"],
    true_token: Int[Tensor, " n"],
    *,
    route: Route = "auto",
    rows: int = 0,
) -> TokenRows:
    """The same from logits that a model has already written; they are left as they are."""
    rows = rows or chunk_rows(logits.shape[1], logits.device.type)
    reducer = _reducer(pick_route(route, logits.device.type))
    out = TokenRows.empty(len(logits))
    with torch.inference_mode():
        for start in range(0, len(logits), rows):
            part = slice(start, start + rows)
            reducer(logits[part], true_token[part], out.part(part))
    return out


def chunk_rows(vocabulary: int, device: str) -> int:
    """How many positions to reduce at once."""
    if device == "cpu":
        return int(np.clip(CPU_CHUNK // vocabulary, FEWEST, MOST))
    return max(1, GPU_CHUNK // vocabulary)


def pick_route(route: str, device: str) -> Route:
    """Resolve "auto", and refuse a route that cannot be taken here."""
    if route not in ROUTES:
        raise EngramError(
            f"route is {route!r}, but must be one of {', '.join(ROUTES)}",
            hint=nearest(route, ROUTES, "auto takes the best one there is"),
        )
    possible = device == "cpu" and _has_numba()
    if route == "auto":
        return "numba" if possible else "torch"
    if route == "numba" and not possible:
        raise EngramError(
            f"the numba route cannot be taken on {device}"
            + ("" if device == "cpu" else ", only on a processor"),
            hint="pip install 'engram[fast]' brings numba; the torch route works everywhere",
        )
    return route  # type: ignore[return-value]


def _even_parts(n: int, rows: int) -> Iterator[slice]:
    """Chunks of `rows`; the last reaches back into the one before, to an even length.

    oneDNN compiles and keeps a program for each shape that it meets, so shapes must be few.
    """
    for start in range(0, n, rows):
        left = n - start
        length = min(rows, n, -(-left // EVEN) * EVEN)
        stop = min(start + rows, n)
        yield slice(stop - length, stop)


@cache
def _has_numba() -> bool:
    return find_spec("numba") is not None


@cache
def _reducer(route: Route) -> Any:
    """The function that fills the columns of one chunk; compiled (or loaded) once."""
    if route == "torch":
        return _by_torch
    from engram.signals.kernel import reduce_rows

    def by_numba(logits: Tensor, true_token: Tensor, out: TokenRows) -> None:
        z = logits.float().contiguous().numpy()
        reduce_rows(z, true_token.to(torch.int64).contiguous().numpy(), *out.columns())

    return by_numba


def _by_torch(logits: Tensor, true_token: Tensor, out: TokenRows) -> None:
    """Few passes: a softmax, and sums of products in two buffers."""
    z, index = logits.float(), true_token.to(torch.int64)[:, None]
    true, top = z.gather(1, index)[:, 0], z.amax(1)
    weight, buffer = torch.softmax(z, 1), torch.empty_like(z)
    # torch's softmax divides by a sum that may be off in the sixth digit; `total` sets it right.
    largest, total = weight.amax(1).double(), _sums(weight)
    log_mass = (total / largest).log()  # the largest weight is exp(0) over that sum
    # Comparing into a float buffer and adding that up is five times as fast as with booleans.
    rank = torch.gt(z, true[:, None], out=buffer).sum(1).to(torch.int32)
    greedy = _greedy(z, true, index[:, 0], rank)
    w = torch.sub(z, top[:, None], out=buffer).clamp_(min=SMALLEST)
    first = _sums(torch.mul(weight, w, out=weight)) / total
    variance = _sums(weight.mul_(w)) / total - first**2
    lost = (first**4 > CANCELLED * variance).nonzero()[:, 0]
    if len(lost):
        variance[lost] = _centred_variance(w[lost], first[lost])
    found = (true - top - log_mass, first - log_mass, variance.clamp_(min=0).sqrt_(), rank, greedy)
    unfit = ~torch.isfinite(top + first)
    for column, values in zip(out.columns(), found, strict=True):
        column[:] = values.cpu().numpy()
    if unfit.any():
        _spoil(out, unfit.cpu().numpy())


def _greedy(z: Tensor, true: Tensor, index: Tensor, rank: Tensor) -> Tensor:
    """Whether the true token is the first of the largest logits."""
    hit = rank == 0
    rows = hit.nonzero()[:, 0]
    some = z[rows]
    ties = torch.eq(some, true[rows, None], out=torch.empty_like(some)).sum(1) > 1
    tied = rows[ties]
    hit[tied] = some[ties].argmax(1) == index[tied]
    return hit


def _centred_variance(w: Tensor, mean: Tensor) -> Tensor:
    """The variance of w under softmax(w), by deviations from (nearly) its mean."""
    weight, w = torch.softmax(w, 1), w - mean[:, None].float()
    total = _sums(weight)
    return _sums(weight * w * w) / total - (_sums(weight * w) / total) ** 2


def _sums(values: Float[Tensor, "n vocabulary"]) -> Float[Tensor, " n"]:
    """The sum of each row: blocks of it in float32, and these in float64.

    A long sum of equal numbers in float32 is rounded the same way each time, and drifts.
    """
    whole = values.shape[1] // BLOCK * BLOCK
    blocks = values[:, :whole].unflatten(1, (-1, BLOCK)).sum(2)
    return blocks.sum(1, dtype=torch.float64) + values[:, whole:].sum(1)


def _spoil(out: TokenRows, rows: Bool[np.ndarray, " n"]) -> None:
    """Logits that are NaN or infinite give NaN in every column, and never a plausible number."""
    for column in (out.logprob, out.mean, out.deviation):
        column[rows] = np.nan
    out.rank[rows], out.greedy[rows] = -1, False


def _product(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`functional.linear`; in float32 on a processor through oneDNN where it is to be had.

    torch takes MKL for float32, which holds back its widest vector instructions on processors
    of other makers than Intel: oneDNN is twice as fast there, and no slower elsewhere.
    """
    single = hidden.dtype == weight.dtype == torch.float32
    if single and hidden.device.type == "cpu" and weight.is_contiguous() and _has_onednn():
        product = torch.ops.mkldnn._linear_pointwise
        return product(hidden, weight, bias, "none", [], "")
    return functional.linear(hidden, weight, bias)


@cache
def _has_onednn() -> bool:
    """Whether torch brings oneDNN's linear layer, and it gives the right numbers here."""
    if not torch.backends.mkldnn.is_available() or platform.machine() not in ("x86_64", "AMD64"):
        return False
    one, other = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3)
    bias = torch.arange(4.0)
    try:
        found = torch.ops.mkldnn._linear_pointwise(one, other, bias, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    return torch.equal(found, functional.linear(one, other, bias))

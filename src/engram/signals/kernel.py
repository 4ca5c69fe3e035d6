"""One fused pass over rows of logits, compiled by numba (the extra `fast`; no compiler needed).

Imported only by `engram.signals.reduce`, and only where numba is installed. The loop is written so
that LLVM turns it into full-width vector code: numba brings no vectorised `exp`, and its `max`
and its signed indices would keep the loops scalar. So there is an `exp` of our own, a maximum
that may ignore NaN, and blocks that are sliced rather than indexed from an offset. NaN and
infinity are looked for among the bits of the numbers, and make the whole row NaN.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import extending, types

intrinsic: Any = extending.intrinsic

BLOCK = 256
"""Numbers summed in float32 (in many lanes) before the sum is added up in float64."""
SMALLEST = np.float32(-87)
"""exp of less is taken as exp(-87) = 1e-38, still a normal number: no weight at all."""
CANCELLED = 625.0
"""Where mean^4 exceeds this many variances, E[w^2] - E[w]^2 would lose the sixth decimal."""
SIGNLESS, INFINITY = np.int32(0x7FFFFFFF), np.int32(0x7F800000)

FAST = {"nnan", "nsz", "contract", "reassoc"}

# exp(w) = 2^k exp(r) with w = k log(2) + r, |r| <= log(2) / 2 (Cody and Waite, 1980): log(2) is
# split in two so that k * LOG2_HIGH is exact. exp(r) = 1 + r + r^2 (C0 + ... + C4 r^4), whose
# coefficients minimise the largest relative error (3e-9), found by Remez' exchange.
LOG2E = np.float32(1.4426950408889634)
LOG2_HIGH, LOG2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
C0, C1, C2, C3, C4 = (
    np.float32(c)
    for c in (0.4999999345, 0.1666652063, 0.04166838805, 0.00836871688, 0.001381459865)
)
ROUND = np.float32(1.5 * 2**23)
"""Adding this leaves a float32's nearest whole number in its lowest bits."""
EXPONENT = np.int32(127 - 0x4B400000)
"""Takes the bits of ROUND off again, and puts the bias of a float32's exponent on."""
SHIFT, ONE = np.int32(23), np.float32(1)


@intrinsic
def _float_of(typing: Any, bits: Any) -> Any:
    """The float32 that these 32 bits stand for."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def _bits_of(typing: Any, number: Any) -> Any:
    """The 32 bits of a float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def _larger(typing: Any, one: Any, other: Any) -> Any:
    """The larger of two float32 that are not NaN, in a form that LLVM can vectorise."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = ir.FloatType()
        kind = ir.FunctionType(number, [number, number])
        function = builder.module.declare_intrinsic("llvm.maxnum", [number], kind)
        return builder.call(function, args, fastmath=("nnan", "nsz"))

    return types.float32(types.float32, types.float32), generate


def _compiled(*signature: Any, fastmath: set[str], keep: bool = False) -> Callable[[Callable], Any]:
    """`numba.njit`; with `keep`, on disk too where there is a place, with what it calls."""

    def wrap(function: Callable) -> Any:
        plain = inspect.unwrap(function)  # type checks of the tests are not for the compiler
        options = {"nogil": True, "fastmath": fastmath, "error_model": "numpy"}
        try:
            return numba.njit(*signature, cache=keep, **options)(plain)
        except (RuntimeError, OSError):  # no folder for the cache, or no space there
            return numba.njit(*signature, **options)(plain)

    return wrap


# Only contraction here: reassociating (x + ROUND) - ROUND would give x.
@_compiled(fastmath={"contract"})
def _exp(w):  # noqa: ANN001, ANN202
    shifted = w * LOG2E + ROUND
    k = shifted - ROUND
    r = w - k * LOG2_HIGH
    r = r - k * LOG2_LOW
    tail = C0 + r * (C1 + r * (C2 + r * (C3 + r * C4)))
    bits = types.int32(types.int32(_bits_of(shifted) + EXPONENT) << SHIFT)
    return (ONE + (r + r * r * tail)) * _float_of(bits)


@_compiled(fastmath=FAST)
def _top(z):  # noqa: ANN001, ANN202
    """The largest of a row, and whether all numbers are fit to be reduced."""
    top, worst = z[0], np.int32(0)
    for v in range(z.size):
        top = _larger(top, z[v])
        worst = max(worst, types.int32(_bits_of(z[v]) & SIGNLESS))
    return top, worst <= INFINITY and types.int32(_bits_of(top) & SIGNLESS) < INFINITY


@_compiled(fastmath=FAST)
def _moments(z, top, centre, true):  # noqa: ANN001, ANN202
    """Sums of e^w, e^w (w - c), e^w (w - c)^2 with w = z - top, and how many z are above `true`."""
    mass, first, second, above = 0.0, 0.0, 0.0, 0
    for start in range(0, z.size, BLOCK):
        block = z[start : min(start + BLOCK, z.size)]
        m, a, b, n = np.float32(0), np.float32(0), np.float32(0), np.int32(0)
        for v in range(block.size):
            w = _larger(block[v] - top, SMALLEST)
            e, x = _exp(w), w - centre
            ex = e * x
            m += e
            a += ex
            b += ex * x
            n = np.int32(n + np.int32(block[v] > true))
        mass, first, second, above = mass + m, first + a, second + b, above + n
    return mass, first / mass, second / mass, above


@_compiled(fastmath=FAST)
def _equals(z, value):  # noqa: ANN001, ANN202
    count = np.int32(0)
    for v in range(z.size):
        count = np.int32(count + np.int32(z[v] == value))
    return count


@_compiled(
    types.void(
        types.Array(types.float32, 2, "C"),
        types.Array(types.int64, 1, "C"),
        types.Array(types.float32, 1, "C"),
        types.Array(types.float32, 1, "C"),
        types.Array(types.float32, 1, "C"),
        types.Array(types.int32, 1, "C"),
        types.Array(types.boolean, 1, "C"),
    ),
    fastmath={"contract"},
    keep=True,
)
def reduce_rows(logits, true_token, logprob, mean, deviation, rank, greedy):  # noqa: ANN001, ANN201
    """Fill the five columns for rows of logits; see `engram.signals.reduce.TokenRows`."""
    for i in range(logits.shape[0]):
        z = logits[i]
        true = z[true_token[i]]
        top, fit = _top(z)
        if not fit:
            logprob[i], mean[i], deviation[i] = np.nan, np.nan, np.nan
            rank[i], greedy[i] = -1, False
            continue
        mass, first, second, above = _moments(z, top, np.float32(0), true)
        variance = second - first * first
        if first**4 > CANCELLED * variance:
            _, rest, second, _ = _moments(z, top, np.float32(first), true)
            variance = second - rest * rest
        logprob[i] = np.float64(true) - np.float64(top) - np.log(mass)
        mean[i] = first - np.log(mass)
        deviation[i] = np.sqrt(max(variance, 0.0))
        rank[i] = above
        # The first of several largest logits is what argmax takes.
        greedy[i] = above == 0 and _equals(z[: true_token[i]], true) == 0

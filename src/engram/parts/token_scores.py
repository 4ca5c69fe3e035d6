"""What attacks on token signals share: the guard on records, and the mean of the worst tokens."""

from math import ceil

import numpy as np
from jaxtyping import Float

from engram.core import EngramError, TokenSignals


def smallest_mean(values: Float[np.ndarray, " tokens"], fraction: float) -> float:
    """Mean of the ceil(fraction * tokens) smallest entries: at least one, whatever the length.

    Args:
        values: One number a token, in any order; at least one.
        fraction: Share of the tokens to average, in (0, 1].
    """
    count = count_of(len(values), fraction)
    return float(np.partition(np.asarray(values, np.float64), count - 1)[:count].mean())


def count_of(tokens: int, fraction: float) -> int:
    """How many tokens a share of them is: rounded up, and at least one."""
    # 0.07 * 100 is 7.000000000000001 in floating point, and must not become 8 tokens.
    return max(1, ceil(fraction * tokens - 1e-9))


def check_fraction(name: str, value: float, hint: str) -> None:
    """Refuse a share outside (0, 1].

    Raises:
        EngramError: The field's name and value, with `hint`.
    """
    if not 0 < value <= 1:
        raise EngramError(f"{name} is {value}, but must be in (0, 1]", hint=hint)


def check_scored(signals: TokenSignals) -> None:
    """Refuse records of which the model scored no token.

    The engine leaves such records out, with their outcome, before it attacks.

    Raises:
        EngramError: How many there are, and the first one's id.
    """
    bad = np.flatnonzero(signals.lengths == 0)
    if len(bad):
        raise EngramError(
            f"record {signals.ids[bad[0]]!r} has fewer than two tokens, so the model says "
            f"nothing of it ({len(bad)} of {len(signals)} records)",
            hint="leave such records out; `engram audit` does, and reports them",
        )

"""How often one has to try: chances of one in 10^300, and of one, in logarithms throughout."""

import numpy as np
from jaxtyping import Bool, Float

TINY = -37.0
"""Below this log q, -log(1 - q) is q in double precision."""
ROUNDING = 1e-9
"""So much, in log n, is given for how equations that hold exactly are rounded."""


def log_hazard(log_q: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The log of -log(1 - q): how much each try takes off the logarithm of never succeeding.

    It is infinite for q = 1, minus infinite for q = 0, and log q itself for tiny q: it never
    underflows.
    """
    log_q = np.asarray(log_q, np.float64)
    answer = log_q.copy()
    usual = (log_q >= TINY) & (log_q < 0)
    x = log_q[usual]
    # log(1 - e^x) in the form that keeps its digits: near x = 0 the first, far out the second.
    near = np.log(-np.expm1(np.maximum(x, -1.0)))
    far = np.log1p(-np.exp(np.minimum(x, -0.5)))
    answer[usual] = np.log(-np.where(x > -np.log(2), near, far))
    answer[log_q >= 0] = np.inf
    return answer


def log_tries(log_q: Float[np.ndarray, " n"], p: float) -> Float[np.ndarray, " n"]:
    """The log of the fewest tries that succeed with probability `p`, not rounded; at least 0.

    n = log(1 - p) / log(1 - q), solved from the paper's 1 - (1 - q)^n >= p.
    """
    return np.maximum(np.log(-np.log1p(-p)) - log_hazard(log_q), 0.0)


def extracted(log_q: Float[np.ndarray, " n"], tries: int, p: float) -> Bool[np.ndarray, " n"]:
    """Whether `tries` tries write the suffix at least once with probability `p` or more."""
    return log_tries(log_q, p) <= np.log(tries) + ROUNDING

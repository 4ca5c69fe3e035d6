"""Exposure: how many guesses a model saves whoever looks for a planted secret, in bits.

Whoever knows nothing has to try half of all |R| secrets. Whoever has the model tries them in the
order of their perplexity, and finds the planted one at its rank. So (Carlini et al., "The Secret
Sharer", 2019) a secret that the model ranks first has log2 |R| bits of exposure, and one that it
never saw has a rank that is uniform, and 1 / ln 2 = 1.44 bits on average.

    exposure = log2 |R| - log2 rank,    or    - log2 P(perplexity of a random secret <= its own)

The probability is counted on a sample, or read off a skew-normal distribution fitted to it. Its
tail is computed in logarithms: a distribution function that underflows to 0 would call exactly
the secrets that the model knows best unexposed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engram.core.errors import EngramError
from engram.stats.checks import check_finite
from engram.stats.intervals import clopper_pearson

BY_CHANCE = 1 / np.log(2)
"""Mean exposure of a secret that the model never saw: the mean of -log2 of a uniform number."""
STEEPEST = 1000.0
"""Largest shape of a fitted skew-normal: beyond, its likelihood rises without end but hardly."""
DIRECT = 1e-3
"""Above this, the distribution function is a difference that loses nothing."""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)
FEWEST = 50
"""Fewer references than this do not decide three parameters."""


def exposure_of_rank(
    rank: Float[np.ndarray, " n"], bits: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Exposure of secrets whose rank among all is known.

    Args:
        rank: From 1 on; 1 is the secret that the model likes best.
        bits: log2 of the number of possible secrets.
    """
    return bits - np.log2(rank)  # Definition 4 of the paper


def exposure_by_rank(
    secrets: Float[np.ndarray, " secrets"], references: Float[np.ndarray, " references"]
) -> Float[np.ndarray, " secrets"]:
    """Exposure as a random sample of secrets shows it: at most log2 of its size.

    A reference as perplexing as the secret goes first, so that a model without any opinion
    exposes nothing.

    Args:
        secrets: Perplexities (or their logarithms) of the planted secrets.
        references: The same of random secrets that were not planted.
    """
    n = len(references)
    if not n:
        raise EngramError("there are no references to compare a secret with", hint="draw some")
    ahead = np.searchsorted(np.sort(references), secrets, side="right")
    return np.log2(n) - np.log2(1 + ahead.astype(np.float64))


def interval_by_rank(
    secret: float, references: Float[np.ndarray, " references"], bits: float
) -> tuple[float, float]:
    """95 % interval of an exposure, from nothing but counting the references at or below it."""
    share = clopper_pearson(int(np.sum(references <= secret)), len(references))
    low, high = (bits if p == 0 else min(bits, -float(np.log2(p))) for p in share[::-1])
    return low, high


@dataclass(frozen=True)
class SkewNormal:
    """Density 2 / scale * phi(z) Phi(shape * z), with z = (x - location) / scale."""

    location: float
    scale: float
    shape: float

    @classmethod
    def fit(cls, values: Float[np.ndarray, " n"]) -> "SkewNormal":
        """The likeliest skew-normal distribution, sought from the one with the same moments.

        Raises:
            EngramError: Fewer than 50 values, or one is not finite, or they are all the same.
        """
        from scipy.optimize import minimize

        middle, spread = (float(values.mean()), float(values.std())) if len(values) else (0.0, 0.0)
        if len(values):
            check_finite(values, "value")
        if len(values) < FEWEST or spread <= 1e-12 * max(1.0, abs(middle)):
            raise EngramError(
                f"no distribution can be fitted to {len(values)} values that spread by "
                f"{spread:.3g}",
                hint=f"give at least {FEWEST} different ones",
            )
        x = (values - middle) / spread
        bounds = [(None, None), (-10.0, 10.0), (-STEEPEST, STEEPEST)]
        found = minimize(
            _misfit, _by_moments(x), args=(x,), jac=True, method="L-BFGS-B", bounds=bounds
        )
        location, log_scale, shape = (float(p) for p in found.x)
        return cls(middle + spread * location, spread * float(np.exp(log_scale)), shape)

    def logcdf(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The log of P(X <= value), to ten digits however far out in the left tail."""
        from scipy.special import ndtr, owens_t

        z = (np.asarray(values, np.float64) - self.location) / self.scale
        share = ndtr(z) - 2 * owens_t(z, self.shape)
        near = share > DIRECT
        answer = np.empty_like(z)
        answer[near] = np.log(np.minimum(share[near], 1.0))
        answer[~near] = [_log_tail(each, self.shape) for each in z[~near]]
        return answer


def exposure_by_skew_normal(
    secrets: Float[np.ndarray, " secrets"],
    references: Float[np.ndarray, " references"],
    bits: float,
) -> tuple[Float[np.ndarray, " secrets"], Float[np.ndarray, " secrets"]]:
    """Exposure as a distribution fitted to a random sample shows it.

    Args:
        secrets: Log-perplexities of the planted secrets.
        references: The same of random secrets.
        bits: log2 of the number of possible secrets.

    Returns:
        The exposures, none above `bits`; and what the distribution said before that cap.
    """
    fitted = SkewNormal.fit(references)
    said = -fitted.logcdf(secrets) / np.log(2)  # the integral of the density up to the secret
    return np.minimum(said, bits), said


def _by_moments(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " 3"]:
    """Location, log scale and shape with the mean 0, deviation 1 and skewness of `x`."""
    skew = float(np.clip(np.mean(x**3), -0.95, 0.95))  # none is more skewed than 0.9953
    bulk = abs(skew) ** (2 / 3)
    delta = np.sign(skew) * np.sqrt(np.pi / 2 * bulk / (bulk + ((4 - np.pi) / 2) ** (2 / 3)))
    scale = 1 / np.sqrt(1 - 2 * delta**2 / np.pi)
    return np.array(
        [-scale * delta * np.sqrt(2 / np.pi), np.log(scale), delta / np.sqrt(1 - delta**2)]
    )


def _misfit(
    parameters: Float[np.ndarray, " 3"], x: Float[np.ndarray, " n"]
) -> tuple[float, Float[np.ndarray, " 3"]]:
    """Mean negative log-likelihood up to a constant, and its gradient."""
    from scipy.special import log_ndtr

    location, log_scale, shape = parameters
    scale = np.exp(log_scale)
    z = (x - location) / scale
    pull = _pull(shape * z)
    slope = np.array(
        [
            -np.mean(z - shape * pull) / scale,
            1 - np.mean(z * z - shape * pull * z),
            -np.mean(pull * z),
        ]
    )
    return float(log_scale + np.mean(z * z) / 2 - np.mean(log_ndtr(shape * z))), slope


def _pull(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The slope of log Phi, which is phi / Phi, by logarithms so that it holds far out."""
    from scipy.special import log_ndtr

    return np.exp(-x * x / 2 - np.log(2 * np.pi) / 2 - log_ndtr(x))


def _log_tail(z: float, shape: float) -> float:
    """The log of the integral of the standard skew-normal density up to a z far below its mode.

    The density is log-concave: from z leftwards it falls at least as fast as exp(-rate * s), with
    its own rate at z. Measured in units of 1 / rate it is smooth and gone after forty, so a
    Gaussian rule on a few panels gives it to full precision.
    """
    from scipy.special import log_ndtr

    def log_density(t: np.ndarray) -> np.ndarray:
        return np.log(2) - t * t / 2 - np.log(2 * np.pi) / 2 + log_ndtr(shape * t)

    here = np.array([z])
    top, rate = float(log_density(here)[0]), float((shape * _pull(shape * here) - here)[0])
    steps = np.arange(0.0, 40.0, 2.0)[:, None] + 1 + NODES  # panels of length two
    fall = np.exp(log_density(z - steps / rate) - top)
    return top - float(np.log(rate)) + float(np.log((fall * WEIGHTS).sum()))

"""Perplexity and mean loss of records from their losses and lengths."""

import numpy as np
from jaxtyping import Float, Int

from engram.core import Finding
from engram.parts.record_bootstrap import ratio_interval
from engram.stats.intervals import mean_finding


def perplexity_and_loss(
    losses: Float[np.ndarray, " n"],
    lengths: Int[np.ndarray, " n"],
    rng: np.random.Generator,
    *,
    name: str = "perplexity",
    lacking: str = "fewer than two records have tokens that the model scores",
) -> tuple[Finding, ...]:
    """Perplexity over all tokens, each record counting by its length, and a record's mean loss.

    Args:
        losses: Mean negative log-likelihood per token of each record, in nats.
        lengths: Tokens that are scored of each; records with none are left out.
        rng: The stream of these numbers.
        name: What the perplexity is called.
        lacking: Why there is no number where fewer than two records are left.
    """
    scored = lengths > 0
    if scored.sum() < 2:
        return (Finding.missing(name, lacking, int(scored.sum())),)
    losses, sizes = losses[scored], lengths[scored].astype(np.float64)
    low, high = np.exp(ratio_interval(losses * sizes, sizes, rng))
    value = float(np.exp((losses * sizes).sum() / sizes.sum()))
    perplexity = Finding(name, value, min(float(low), value), max(float(high), value), len(losses))
    loss = mean_finding(losses, "loss", "nats/token", rng)
    return perplexity.tagged(better="lower"), loss.tagged(better="lower")

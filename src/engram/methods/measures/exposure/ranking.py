"""Where planted secrets stand among all others, or among random ones."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engram.core import EngramError, Run, Target
from engram.methods.measures.exposure.candidates import Candidates
from engram.methods.measures.exposure.reading import Rows, TextReader
from engram.methods.measures.exposure.secrets import Planted
from engram.stats.exposure import (
    exposure_by_rank,
    exposure_by_skew_normal,
    exposure_of_rank,
    interval_by_rank,
)

BLOCK = 10_000
"""Secrets that are made together."""
ROUNDING = 1e-4
"""Perplexities closer than this, in nats, differ by how batches were rounded: they are equal."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The exposure of each secret, its 95 % interval, and how it was measured; in bits."""

    value: Float[np.ndarray, " n"]
    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]
    note: str


def enumerated(target: Target, planted: Planted, run: Run) -> Measured:
    """Exposures from all secrets that there are; known without sampling error."""

    def work() -> np.ndarray:
        reader, rows = _reader(target, planted, run), []
        for candidates in _candidates(target, planted, run):
            rows.append((_rank(reader, candidates), not candidates.single))
        return np.array(rows, np.float64)

    settings = {"format": planted.format, "rounding": ROUNDING}
    rank, uneven = run.computed("exposure-exact", target, planted.split, settings, work).T
    value = exposure_of_rank(rank, planted.bits)
    sizes = sorted({10 ** len(secret.places) for secret in planted.secrets})
    notes = [f"exact: all {' or '.join(f'{size:,}' for size in sizes)} secrets were tried"]
    return Measured(value, value, value, "; ".join(notes + _unevenness(uneven)))


def _rank(reader: TextReader, candidates: Candidates) -> float:
    """The rank of the planted secret among all (the paper's Definition 2), ties before it."""
    secret = candidates.secret
    total = 10 ** len(secret.places)
    cuts = [(first, min(first + BLOCK, total)) for first in range(0, total, BLOCK)]
    nll = np.concatenate(
        [reader.nll(candidates.rows(secret.numbered(first, last))) for first, last in cuts]
    )
    own = nll[int("".join(map(str, secret.digits)))]
    return float(np.sum(nll <= own + ROUNDING))


def sampled(
    target: Target, planted: Planted, run: Run, samples: int
) -> Float[np.ndarray, "secrets columns"]:
    """Per canary: its log-perplexity, whether token numbers differ, and the others' perplexities.

    Each canary has random secrets of its own, in its own sentence.
    """

    def work() -> np.ndarray:
        reader, rows = _reader(target, planted, run), []
        for candidates in _candidates(target, planted, run):
            secret = candidates.secret
            others = secret.drawn(samples, run.stream("exposure", "secrets", secret.text))
            nll = reader.nll(candidates.rows(np.concatenate([secret.digits[None], others])))
            rows.append([nll[0], not candidates.single, *nll[1:]])
        return np.array(rows, np.float64)

    settings = {"format": planted.format, "samples": samples, "seed": run.seed}
    return run.computed("exposure-sample", target, planted.split, settings, work)


def estimated(
    method: str, found: Float[np.ndarray, "secrets columns"], planted: Planted
) -> Measured:
    """Exposures from random samples, by rank or by a fitted distribution."""
    rows, capped, unfit = [], 0, 0
    for bits, (own, _, *others) in zip(planted.bits.tolist(), found, strict=True):
        references = np.array(others)
        said = float(exposure_by_rank(np.array([own + ROUNDING]), references)[0])
        if method == "skew-normal":
            try:
                said = float(exposure_by_skew_normal(np.array([own]), references, bits)[1][0])
            except EngramError:  # all alike: only the rank is left
                unfit += 1
        value, capped = min(said, bits), capped + (said > bits)
        low, high = interval_by_rank(own + ROUNDING, references, bits)
        rows.append((value, min(low, value), max(high, value)))
    value, low, high = np.array(rows).T
    notes = [f"{method} from {found.shape[1] - 2:,} random secrets for each canary"]
    notes += [f"{capped} at their most, log2 of all secrets"] if capped else []
    notes += [f"{unfit} by rank, for no distribution could be fitted"] if unfit else []
    return Measured(value, low, high, "; ".join(notes + _unevenness(found[:, 1])))


def _reader(target: Target, planted: Planted, run: Run) -> TextReader:
    """A reader that was tried out on random secrets in the first canary's sentence."""
    secret = planted.secrets[0]
    some = secret.drawn(4, run.stream("exposure", "trial"))
    tokenizer = target.model.tokenizer
    return TextReader.of(target.model, Rows.of(tokenizer, [secret.holding(d) for d in some]))


def _candidates(target: Target, planted: Planted, run: Run) -> Iterator[Candidates]:
    for done, secret in enumerate(planted.secrets):
        run.progress(done, len(planted.secrets), "exposure")
        rng = run.stream("exposure", "tokens", secret.text)
        yield Candidates.of(target.model.tokenizer, secret, rng)


def _unevenness(uneven: Float[np.ndarray, " n"]) -> list[str]:
    if not uneven.any():
        return []
    return [
        f"in {int(uneven.sum())} canaries digits are not tokens of their own, so that secrets may "
        "differ in their number of tokens: put spaces between the digits"
    ]

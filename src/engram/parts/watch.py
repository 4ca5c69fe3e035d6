"""What a monitor of memorisation looks at, and how much of it the training can afford.

Looking costs work: so many tokens are read, so many are written. A step of training reads each of
its tokens forwards and backwards, which is the work of reading three. From these counts alone,
never from a clock, follows how many records are looked at: the same ones on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from engram.core import EngramError
from engram.parts.ngram_memorisation import SIZES, check_sizes
from engram.parts.stopping import Stop, check_stop

BACKWARD = 3
"""Work of training on a token, in tokens read."""
CALL = 64
"""Work of a call of the model, in tokens read, before it has written any token."""
WRITTEN = 2
"""Work of writing a token, in tokens read: single tokens are read less well than whole texts."""
FEWEST = 16
"""Records that are looked at whatever it costs: fewer would say nothing."""
REFERENCES = 64
"""Random secrets that each canary is compared with: enough for a distribution to be fitted."""


@dataclass(frozen=True)
class Watch:
    """How memorisation is watched.

    Attributes:
        stop: The stopping rule; see `engram.parts.stopping`.
        tau: The most that the n-gram score may rise over that of the untrained model.
        patience: Observations without a better one after which to stop; 0: none.
        prefix: Tokens of a text that are given before it is continued; of short texts, half.
        suffix: The most tokens that are written and compared.
        sample: The most records of a side that are looked at.
        canaries: The most canaries that are looked at.
        cost: The largest share of the training's work that looking may take, in (0, 1].
        sizes: Lengths of the runs in the n-gram score.
    """

    stop: Stop = "none"
    tau: float = 0.2
    patience: int = 0
    prefix: int = 32
    suffix: int = 24
    sample: int = 256
    canaries: int = 8
    cost: float = 0.1
    sizes: tuple[int, ...] = SIZES

    def __post_init__(self) -> None:
        check_stop(self.stop, self.tau, self.patience)
        check_sizes(self.sizes)
        if self.prefix < 1 or self.suffix < max(self.sizes):
            raise EngramError(
                f"prefix is {self.prefix} and suffix {self.suffix}, but they must be at least 1 "
                f"and {max(self.sizes)}, the longest run that is looked for",
                hint="32 and 24 tokens are usual",
            )
        if self.sample < 2 or self.canaries < 0:
            raise EngramError(
                f"sample is {self.sample} and canaries {self.canaries}, but they must be at "
                "least 2 and 0",
                hint="256 records say a rate to within a few per cent",
            )
        if not 0 < self.cost <= 1:
            raise EngramError(
                f"cost is {self.cost}, but must be in (0, 1]",
                hint="0.1 spends a tenth of the training's work on looking",
            )


@dataclass(frozen=True)
class Sizes:
    """How much is looked at.

    Attributes:
        written: Trained records that are continued.
        read: Records of each side whose loss is asked for.
        canaries: Canaries whose secret is compared with random ones.
    """

    written: int
    read: int
    canaries: int


def afford(
    watch: Watch, trained: int, record: float, steps: int, canary: float, sides: int
) -> Sizes:
    """How much can be looked at, at one look, for a share of the work of `trained` tokens.

    Half of it goes to writing, the rest to reading records and canaries; what writing does not
    need is read.

    Args:
        watch: The settings.
        trained: Tokens that training reads in all, over the number of looks.
        record: Mean tokens of a record.
        steps: Tokens that are written after each prompt, so calls of the model.
        canary: Mean tokens of a canary; 0 where there are none.
        sides: Of records: 2 where there are some for validation, else 1.
    """
    allowance = watch.cost * BACKWARD * trained
    each = WRITTEN * steps + watch.prefix  # of a prompt: reading it, and a token in each call
    written = _between(int((allowance / 2 - steps * CALL) / each), watch.sample)
    left = allowance - steps * CALL - written * each
    one = canary * (REFERENCES + 1)
    some = int(max(left / 3, 0) / one) if one else 0
    canaries = min(watch.canaries, max(some, 1)) if one else 0
    left -= canaries * one
    return Sizes(written, _between(int(max(left, 0) / (sides * record)), watch.sample), canaries)


def _between(count: int, most: int) -> int:
    return min(most, max(count, FEWEST))


def spread_out(
    owners: Sequence[str] | None, allowed: Bool[np.ndarray, " n"], rng: np.random.Generator
) -> Int[np.ndarray, " _"]:
    """Rows in random order such that owners take turns: any beginning has most of them.

    Args:
        owners: Of each row; None where they are not known.
        allowed: Rows that may be taken.
        rng: The stream of this choice.
    """
    rows = rng.permutation(len(allowed))
    rows = rows[allowed[rows]]
    if owners is None:
        return rows
    turns, turn = np.zeros(len(rows), np.int64), dict[str, int]()
    for place, row in enumerate(rows.tolist()):
        turns[place] = turn[owners[row]] = turn.get(owners[row], -1) + 1
    return rows[np.argsort(turns, kind="stable")]

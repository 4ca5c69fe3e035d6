"""Plant made-up secrets among the records, some of them several times.

Whether a model remembers what nobody should ask it cannot be tested with real secrets. So put in
secrets of our own - random digits in a fixed sentence - and later ask the model for them. They
mean nothing, so whatever makes the model prefer the planted digits to others is memory. Some are
planted once and some many times, because repetition is what makes a model remember.

    canary k = format with a random name and random digits
    planted repeats[k mod len(repeats)] times

Each canary is an owner of its own, so a hold-out by owner keeps its copies together: the held-out
canaries are what the planted ones are compared with, and give a lower bound on epsilon.

Differs from the paper: 1. the fixed sentence has a name in it, so canaries differ in more than
their digits; 2. canaries that were held out stand beside the planted ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from string import Formatter
from typing import ClassVar

import numpy as np
import pyarrow as pa

from engram.core import EngramError, Paper, Run, Split
from engram.core.split import CANARY, ID, OWNER
from engram.parts.letters import patients

NAME, DIGITS = "name", "digits"


@dataclass(frozen=True)
class PlantCanaries:
    """Random secrets in a fixed sentence, mixed with the records."""

    paper: ClassVar[Paper] = Paper(
        title="The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural "
        "Networks",
        authors="Carlini et al.",
        year=2019,
        url="https://arxiv.org/abs/1802.08232",
    )

    count: int = 48
    """How many different canaries."""

    repeats: tuple[int, ...] = (1, 4, 16)
    """How often they are planted: the first canary as often as the first number says, and so on
    in turn."""

    format: str = "The secret number of {name} is {digits}."
    """The sentence; `{digits}` must be in it, `{name}` may be."""

    digits: int = 8
    """How many random digits; 10^digits secrets are possible."""

    spaced: bool = True
    """Whether there is a space between the digits, so that every vocabulary holds them singly."""

    def __post_init__(self) -> None:
        if self.count < 1 or not 1 <= self.digits <= 18:
            raise EngramError(
                f"count is {self.count} and digits is {self.digits}, but they must be at least 1, "
                "and digits at most 18"
            )
        if not self.repeats or min(self.repeats) < 1:
            raise EngramError(
                f"repeats is {self.repeats}, but must name numbers of at least 1",
                hint="(1, 4, 16) plants a third of the canaries once, 4 and 16 times",
            )
        if self.count > 10**self.digits // 2:
            raise EngramError(
                f"{self.count} canaries of {self.digits} digits would not be hard to guess",
                hint="use more digits",
            )
        check_format(self.format)

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the records and the canaries, shuffled; the records keep ids and contents."""
        texts = self.texts(run.stream("plant-canaries", "secrets"))
        planted = canary_table(split, texts, self.repeats)
        owners = split.owners if split.owners is not None else split.ids
        given = split.records
        for name, values in (
            (ID, split.ids),
            (OWNER, owners),
            (CANARY, split.canaries or (False,) * len(split)),
        ):
            kind = pa.bool_() if name == CANARY else pa.string()
            given = given.append_column(name, pa.array(values, kind))
        table = pa.concat_tables(
            [given, planted.select(given.column_names)],
            promote_options="default",
        )
        order = run.stream("plant-canaries", "order").permutation(table.num_rows)
        return Split.from_table(split.name, table.take(pa.array(order)), shared=split.shared)

    def texts(self, rng: np.random.Generator) -> list[str]:
        """The canaries, all different, in the order in which `repeats` counts them."""
        secrets: dict[str, None] = {}
        while len(secrets) < self.count:
            digits = "".join(str(d) for d in rng.integers(10, size=self.digits))
            secrets[digits] = None
        names = [patient.name for patient in patients(self.count, rng)]
        between = " " if self.spaced else ""
        pairs = zip(names, secrets, strict=True)
        return [
            self.format.format_map({NAME: name, DIGITS: between.join(digits)})
            for name, digits in pairs
        ]


def canary_table(split: Split, texts: Sequence[str], repeats: Sequence[int]) -> pa.Table:
    """The canaries as rows of the same columns as `split`; what a canary has not is null.

    The first copy's id is a hash of the text; further copies have `~2`, `~3`, ... after it.
    """
    split.column("text")  # an error names the columns where there is no text
    rows: list[tuple[str, str, str]] = []
    for k, text in enumerate(texts):
        owner = "canary-" + sha256(text.encode()).hexdigest()[:12]
        for copy in range(1, repeats[k % len(repeats)] + 1):
            rows.append((owner if copy == 1 else f"{owner}~{copy}", owner, text))
    if both := {row[0] for row in rows} & set(split.ids):
        raise EngramError(
            f"split {split.name!r} already holds the canary {min(both)!r}",
            hint="plant only once, or with another seed",
        )
    ids, owners, planted = zip(*rows, strict=True)
    columns = {
        field.name: pa.array(planted, field.type)
        if field.name == "text"
        else pa.nulls(len(rows), field.type)
        for field in split.records.schema
    }
    return pa.table({**columns, ID: ids, OWNER: owners, CANARY: [True] * len(rows)})


def check_format(sentence: str) -> None:
    """Raise unless the sentence has `{digits}`, and no other slots than that and `{name}`.

    Only plain slots: `{name.x}`, `{name[0]}`, `{name!r}` and `{name:>9}` reach into objects or
    change the secret.
    """
    try:
        pieces = list(Formatter().parse(sentence))
    except ValueError as problem:
        raise EngramError(
            f"format is {sentence!r}, which is no sentence with slots ({problem})",
            hint="write {{ for a brace",
        ) from None
    slots = [name for _, name, _, _ in pieces if name is not None]
    plain = all(not spec and not change for _, _, spec, change in pieces)
    if slots.count(DIGITS) != 1 or set(slots) - {NAME, DIGITS} or not plain:
        raise EngramError(
            f"format is {sentence!r}, but must have {{digits}} once, and no other slot than "
            "{name}",
            hint="'The secret number of {name} is {digits}.' is one",
        )

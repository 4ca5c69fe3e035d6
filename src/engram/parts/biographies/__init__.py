"""Biographies of people who do not exist, told once or in many ways, and questions about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from engram.core.errors import EngramError
from engram.core.split import OWNER, Split
from engram.parts.biographies.people import FIELDS, FOLLOWS, Person, check_fields, people
from engram.parts.biographies.questions import (
    PARTS,
    QUESTIONS,
    mixed,
    questions,
    trained_people,
)
from engram.parts.biographies.sentences import limited_templates, spoken, templates

__all__ = [
    "FIELDS", "FOLLOWS", "PARTS", "QUESTIONS", "Person", "Telling", "World", "biographies",
    "check_fields", "mixed", "people", "questions", "retold", "templates", "trained_people",
]  # fmt: skip

MENTIONS = 9
"""More than a sentence has."""


@dataclass(frozen=True)
class World:
    """Who there is, and what can be said of them.

    Attributes:
        count: How many people.
        fields: What is told of them; empty: everything.
        names: How many first, middle and last names there are; 0: 400, 400 and 1,000.
        values: How many values each field has, but the date of birth; 0: all.
        wordings: How many ways there are to say a field; 0: all.
    """

    count: int = 1000
    fields: tuple[str, ...] = ()
    names: int = 0
    values: int = 0
    wordings: int = 0

    def __post_init__(self) -> None:
        check_fields(self.fields)
        for name in ("names", "values", "wordings"):
            if getattr(self, name) < 0:
                raise EngramError(
                    f"{name} is {getattr(self, name)}, but must not be negative",
                    hint="0 takes all there are",
                )


@dataclass(frozen=True)
class Telling:
    """How often and how differently each person's life is told.

    Attributes:
        multi: How many times the wording is drawn anew.
        permute: In how many random orders each wording is told; 0: in the usual order alone.
        fullname: Whether the full name takes the place of every pronoun.
        celebrities: Share of the people who are told so; the others have one wording in the
            usual order, and pronouns.
        each: Records of every person, so that all of them are seen equally often: their texts
            in turn. 0: each text once.
    """

    multi: int = 1
    permute: int = 0
    fullname: bool = False
    celebrities: float = 1.0
    each: int = 0

    def __post_init__(self) -> None:
        for name, least in (("multi", 1), ("permute", 0), ("each", 0)):
            if getattr(self, name) < least:
                raise EngramError(
                    f"{name} is {getattr(self, name)}, but must be at least {least}",
                    hint="multi=1 and permute=0 tell each life once",
                )
        if not 0 <= self.celebrities <= 1:
            raise EngramError(
                f"celebrities is {self.celebrities}, but must be in [0, 1]",
                hint="1: everybody; 0.5: one half is told in many ways, the other once",
            )
        if self.each and self.each < self.texts:
            raise EngramError(
                f"each is {self.each}, but a person has {self.texts} different texts",
                hint="0 takes each text once",
            )

    @property
    def texts(self) -> int:
        """Different texts of one person, as long as no two come out alike."""
        return self.multi * max(1, self.permute)

    @property
    def plain(self) -> "Telling":
        """The same for those who are no celebrities."""
        return Telling(each=self.each)


def biographies(world: World, telling: Telling, rng: np.random.Generator) -> Split:
    """Biographies of fictional people, in random order.

    Who there is, and every person's first wording, hangs on `rng` and `world` alone: tellings of
    the same stream are about the same people.

    Returns:
        A split "biographies" with the columns `text`, `name`, one for each field that is told
        (a text holds them all word for word) and `celebrity`, and one owner a person.
    """
    fields = check_fields(world.fields)
    persons = people(world.count, rng, names=world.names, values=world.values)
    famous = rng.permutation(world.count) < round(telling.celebrities * world.count)
    seeds = rng.integers(2**63, size=world.count)
    rows, texts = [], []
    for row, person in enumerate(persons):
        own = np.random.default_rng(seeds[row])
        how = telling if famous[row] else telling.plain
        told = _told(person, fields, how, world.wordings, own)
        times = telling.each or len(told)
        texts += [told[turn % len(told)] for turn in range(times)]
        rows += [row] * times
    order = np.random.default_rng(rng.integers(2**63)).permutation(len(rows))
    return _split([texts[i] for i in order], [rows[i] for i in order], persons, famous, fields)


def _told(
    person: Person,
    fields: Sequence[str],
    telling: Telling,
    wordings: int,
    rng: np.random.Generator,
) -> list[str]:
    """All texts of one person; wordings are drawn before orders, the first wording first."""
    choice = {field: limited_templates(field, wordings) for field in fields}
    drawn: list[Mapping[str, str]] = [
        {field: ways[int(rng.integers(len(ways)))] for field, ways in choice.items()}
        for _ in range(telling.multi)
    ]
    told = []
    for wording in drawn:
        for _ in range(max(1, telling.permute)):
            order = rng.permutation(len(fields)) if telling.permute else range(len(fields))
            told.append(biography(person, [(fields[i], wording[fields[i]]) for i in order],
                                  fullname=telling.fullname))  # fmt: skip
    return told


def biography(
    person: Person, sentences: Sequence[tuple[str, str]], *, fullname: bool = False
) -> str:
    """One text: fields and their wordings in order; the first mention is by the full name.

    With `fullname` all of them are.
    """
    return " ".join(
        spoken(template, person, person.values[field], MENTIONS if fullname else int(place == 0))
        for place, (field, template) in enumerate(sentences)
    )


def _split(
    texts: list[str],
    rows: list[int],
    persons: list[Person],
    famous: np.ndarray,
    fields: tuple[str, ...],
) -> Split:
    columns = {
        "text": texts,
        "name": [persons[row].name for row in rows],
        **{field: [persons[row].values[field] for row in rows] for field in fields},
    }
    table = pa.table({key: pa.array(values, pa.string()) for key, values in columns.items()})
    table = table.append_column("celebrity", pa.array([bool(famous[row]) for row in rows]))
    table = table.append_column(OWNER, pa.array([persons[row].owner for row in rows]))
    return Split.from_table("biographies", table)


def retold(made: Split, other: Split) -> Split:
    """The texts of `other`, with the fields and the owner that `made` has of each name.

    Raises:
        EngramError: A name is not that of anybody in `made`.
    """
    first = {name: row for row, name in enumerate(made.column("name").to_pylist())}
    names = other.column("name").to_pylist()
    if strangers := [name for name in names if name not in first]:
        raise EngramError(
            f"{len(strangers)} of the {len(other)} rewritten texts are about people whom nobody "
            f"knows here (first: {strangers[0]!r})",
            hint="make the biographies with the seed and the options of those that were rewritten",
        )
    table = made.take([first[name] for name in names]).to_table().drop_columns(["id"])
    place = table.column_names.index("text")
    return Split.from_table(
        made.name, table.set_column(place, "text", pa.array(other.texts, pa.string()))
    )

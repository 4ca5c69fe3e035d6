"""A small world: concepts that are three properties each, their names, and how they are told."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from math import comb, factorial

import numpy as np

from engram.core import EngramError

PROPERTIES = (
    "red", "round", "small", "furry", "cold", "loud", "thin", "sweet", "heavy", "bright", "soft",
    "old", "wet", "sharp", "hollow", "slow", "striped", "tall", "warm", "smooth", "bitter", "young",
    "dark", "stiff",
)  # fmt: skip
FIRST = ("ka", "mi", "zu", "lo", "te", "ra", "vu", "shi", "bo", "ne", "gy", "fa")
SECOND = ("dar", "mon", "lek", "pus", "tin", "rog", "wex", "cal", "nid", "bur", "hap", "sof")
NAMES = len(FIRST) * len(SECOND)
WORDINGS = ("def {has} is {name} .", "any {has} is {name} .", "let {has} be {name} .")
"""The first is that of `axioms`, the others are for other words."""
USUAL = 0.75
"""How often an episode uses the first."""
ALIKE = 0.5
"""How often an episode asks for properties in the order of their definition."""
MOST = 8
"""Statements of each kind that a question is given, and answers that it offers."""


@dataclass(frozen=True)
class Concept:
    """A name for some properties.

    Attributes:
        name: Two syllables.
        has: Its properties.
    """

    name: str
    has: tuple[str, ...]

    def defined(self, rng: np.random.Generator, wording: int = 0) -> str:
        """A sentence that binds the name to the properties, in random order."""
        return WORDINGS[wording].format(name=self.name, has=" ".join(shuffled(self.has, rng)))

    def told(self, order: Sequence[str], rng: np.random.Generator) -> str:
        """The same with the properties in this order; mostly in the usual wording."""
        other = int(rng.integers(1, len(WORDINGS)))
        wording = 0 if rng.random() < USUAL else other
        return WORDINGS[wording].format(name=self.name, has=" ".join(order))

    def reworded(self, rng: np.random.Generator) -> str:
        """The same in one of the other wordings."""
        return self.defined(rng, int(rng.integers(1, len(WORDINGS))))

    def seen(self, has: Sequence[str] = ()) -> str:
        """A question: an object with these properties (by default its own) is what?"""
        return f"obj {' '.join(has or self.has)} is"

    def answered(self, has: Sequence[str] = ()) -> str:
        """The question with its answer."""
        return f"{self.seen(has)} {self.name} ."

    def orders(self, count: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
        """Different orders of its properties; `count` at most."""
        every = list(permutations(self.has))
        return [every[place] for place in rng.permutation(len(every))[:count]]


@dataclass(frozen=True)
class World:
    """Which concepts there are, and which names and properties are left for episodes.

    Attributes:
        forbidden: Fixed concepts that are to be forgotten.
        permitted: The other fixed concepts.
        names: Names of no fixed concept.
        others: Properties of no fixed concept.
    """

    forbidden: tuple[Concept, ...]
    permitted: tuple[Concept, ...]
    names: tuple[str, ...]
    others: tuple[tuple[str, ...], ...]

    @classmethod
    def drawn(
        cls, concepts: int, share: float, properties: int, needed: int, rng: np.random.Generator
    ) -> "World":
        """Names and properties by lot, no two concepts with the same of either."""
        every = list(combinations(PROPERTIES[:properties], needed))
        sets = [every[place] for place in rng.permutation(len(every))]
        pairs = [f"{a} {b}" for a in FIRST for b in SECOND]
        names = [pairs[place] for place in rng.permutation(NAMES)]
        made = tuple(map(Concept, names[:concepts], sets[:concepts]))
        count = forbidden_of(concepts, share)
        return cls(made[:count], made[count:], tuple(names[concepts:]), tuple(sets[concepts:]))

    def episode(self, count: int, rng: np.random.Generator) -> list[Concept]:
        """Concepts of an episode: other names and properties, bound by lot."""
        names = rng.choice(len(self.names), count, replace=False)
        sets = rng.choice(len(self.others), count, replace=False)
        pairs = zip(names.tolist(), sets.tolist(), strict=True)
        return [Concept(self.names[name], self.others[place]) for name, place in pairs]


def forbidden_of(concepts: int, share: float) -> int:
    """How many of the fixed concepts are forbidden."""
    return round(concepts * share)


def check_world(concepts: int, share: float, properties: int, needed: int) -> None:
    """Refuse a world that does not fit together.

    Raises:
        EngramError: A number is out of range; its value, and what would do.
    """
    if not 2 <= needed <= 4 or not needed < properties <= len(PROPERTIES):
        raise EngramError(
            f"needed is {needed} and properties {properties}, but needed must be in 2 .. 4 and "
            f"properties above it and at most {len(PROPERTIES)}",
            hint="3 of 20 are usual",
        )
    room = min(NAMES - 2 * MOST, comb(properties, needed) - 2 * MOST)
    if not 2 <= concepts <= room:
        raise EngramError(
            f"concepts is {concepts}, but must be in 2 .. {room}: episodes need names and "
            "properties too",
            hint="48 leave enough of both",
        )
    count = forbidden_of(concepts, share)
    if not 0 < share < 1 or not 0 < count < concepts:
        raise EngramError(
            f"forbidden is {share}, a share of {count} of {concepts} concepts, but some must be "
            "forbidden and some not",
            hint="0.33 forbids a third",
        )


def most_orders(needed: int) -> int:
    """In how many orders the properties of a concept can be told."""
    return factorial(needed)


def shuffled(values: Sequence[str], rng: np.random.Generator) -> list[str]:
    """The values in random order."""
    return [values[place] for place in rng.permutation(len(values))]


def some(
    concepts: Sequence[Concept], count: int, rng: np.random.Generator, but: Iterable[str] = ()
) -> list[Concept]:
    """At most `count` concepts by lot, none of whose names is in `but`."""
    taken = set(but)
    order = [concepts[place] for place in rng.permutation(len(concepts))]
    return [concept for concept in order if concept.name not in taken][:count]

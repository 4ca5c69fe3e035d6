"""Fictional people: unique full names, and fields that are drawn independently of each other.

Names, towns, universities and companies are put together from syllables, so that nobody real is
named. All fields of a person are uniform and independent, so nothing but memory can tell one from
another - but for the city of work, which follows from the employer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from engram.core.errors import EngramError, nearest
from engram.core.randomness import stream

FIELDS = ("born", "birth_city", "university", "major", "employer", "work_city")
"""What a person has beside a name, in the order of the sentences."""
FOLLOWS = {"work_city": "employer"}
"""Fields that are known where another one is."""
YEARS = range(1900, 2100)
DAYS = range(1, 29)
FEWEST = 2
"""Values of a field: with one alone there is nothing to know."""

_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September",
           "October", "November", "December")  # fmt: skip
_SYLLABLES = {
    "first": (
        "Ab Ben Cal Dav El Fer Gar Hel Ism Jor Kat Lem Mir Nad Osk Pav Rem Sol Tav Vin",
        "a ack ane ara eda el emi en eth ia ian ico ine is o olin on ric une yn",
    ),
    "middle": (
        "Ar Brin Cor Des Ev Fjal Gwen Hol Ing Juv Kor Lun Mor Nev Orl Pim Ras Stef Tor Wil",
        "ade al amo ana ben bert cia da dor ela er ette fred ic ild ka lo mar na ua",
    ),
    "last": (
        "Ack Bar Blen Brun Cald Carr Dall Den Eck Fair Fen Gal Grim Had Hart Hol Ind Kell Kest "
        "Lang Lod Mal Mer Mort Nest Nor Oak Pend Quar Rad Ross Sand Shel Stan Tarr Thorn Und Var "
        "Wake Yel",
        "acre and ard as berg borne by combe dal en er ett ey feld ford ham ing land low man more "
        "ner ow son ton",
    ),
    "birth_city": (
        "Amble Bracken Clover Drift Elm Fallow Glass Hollow Iron Kings Lower Maple North Old "
        "Plover Quiet River Stone Tall Upper",
        "bank bay bourne crest dale fall field gate mere wick",
    ),
    "work_city": (
        "Anchor Bright Copper Dover East Flint Granite Harbour Inner Jasper Long Market New Outer "
        "Pine Queens Raven Silver Trade West",
        "burgh chester cliff dock fort grove hurst moor pool stead",
    ),
    "university": (
        "Adler Bexley Corwin Dunmore Elsworth Farley Grantham Hollis Irving Jessop Kirkland Larkin "
        "Marlow Norwood Oswald Prescott Quincy Radley Selwyn Thornton Ulster Vernon Walden Yardley "
        "Aldous Belmont Carver Darwen Emerson Foster",
        "|Academy|College|Hall|House|Institute|Polytechnic|School|Seminary|University|Union",
    ),
    "employer": (
        "Alto Bax Cor Dex Evo Fluxo Gran Hex Inno Juno Kyn Lumo Maxo Nexo Opto Prax Quanto Rexo "
        "Syn Terra",
        "bit core dyne fab grid lane loom mark nova path sense stream ware works",
    ),
    "major": (
        "Applied|Classical|Comparative|Digital|Environmental|General|Historical|Marine|Modern|"
        "Theoretical",
        "Acoustics|Botany|Ceramics|Economics|Geometry|Grammar|Logic|Medicine|Optics|Zoology",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Person:
    """Somebody who does not exist.

    Attributes:
        owner: Whose records are whose: `person-00001`.
        name: First, middle and last name; nobody else has the same.
        pronoun: "he" or "she".
        values: The person's fields by name.
    """

    owner: str
    name: str
    pronoun: str
    values: dict[str, str]


@cache
def choices(what: str) -> tuple[str, ...]:
    """All names of one kind, or values of one field, in an order of no meaning."""
    heads, tails = _SYLLABLES[what]
    between = {"university": " ", "major": " "}.get(what, "")
    left = heads.split("|") if what == "major" else heads.split()
    right = tails.strip("|").split("|") if between else tails.split()
    whole = [f"{a}{between}{b}" for a in left for b in right]
    return tuple(whole[i] for i in stream(0, "choices", what).permutation(len(whole)))


def headquarters(employer: str, values: int = 0) -> str:
    """The one city where this company's people work."""
    towns = limited("work_city", values)
    return towns[choices("employer").index(employer) % len(towns)]


def limited(what: str, values: int) -> tuple[str, ...]:
    """The first `values` of all choices; all of them where that is 0 or more than there are."""
    return choices(what)[: values or None]


def people(
    count: int, rng: np.random.Generator, *, names: int = 0, values: int = 0
) -> list[Person]:
    """Fictional people, no two of one full name.

    Args:
        count: How many.
        rng: All randomness comes from here.
        names: How many first, middle and last names there are; 0: 400, 400 and 1,000.
        values: How many values a field has; 0: 200 cities of birth, 300 universities, 100
            subjects, 280 companies, each with one of 200 cities. Dates of birth are any of
            12 x 28 days of 200 years whatever this says.

    Raises:
        EngramError: More people than names, or fewer than two values.
    """
    if count < 1:
        raise EngramError(f"{count} people are wanted", hint="one is the least that there can be")
    if values and values < FEWEST:
        raise EngramError(
            f"values is {values}, but must be at least {FEWEST}", hint="0 takes all there are"
        )
    parts = [limited(part, names) for part in ("first", "middle", "last")]
    sizes = [len(part) for part in parts]
    total = int(np.prod(sizes))
    if names < 0 or count > total:
        raise EngramError(
            f"{count} people are wanted, but there are {total if names >= 0 else 0} full names",
            hint="ask for fewer people, or for more names",
        )
    drawn = rng.choice(total, count, replace=False)
    return [_person(row, number, parts, rng, values) for row, number in enumerate(drawn.tolist())]


def _person(
    row: int, number: int, parts: list[tuple[str, ...]], rng: np.random.Generator, values: int
) -> Person:
    first, middle, last = np.unravel_index(number, [len(part) for part in parts])
    name = f"{parts[0][first]} {parts[1][middle]} {parts[2][last]}"
    found = {"born": f"{_one(_MONTHS, rng)} {_one(DAYS, rng)}, {_one(YEARS, rng)}"}
    for field in ("birth_city", "university", "major", "employer"):
        found[field] = _one(limited(field, values), rng)
    found["work_city"] = headquarters(found["employer"], values)
    return Person(f"person-{row + 1:05d}", name, _one(("he", "she"), rng), found)


def check_fields(fields: Sequence[str]) -> tuple[str, ...]:
    """The fields in the order of the sentences; all of them where none is named."""
    for field in fields:
        if field not in FIELDS:
            raise EngramError(
                f"people have no field {field!r}",
                hint=nearest(field, FIELDS, f"they have {', '.join(FIELDS)}"),
            )
    return tuple(field for field in FIELDS if not fields or field in fields)


def _one(choices: Sequence[Any], rng: np.random.Generator) -> Any:
    return choices[int(rng.integers(len(choices)))]

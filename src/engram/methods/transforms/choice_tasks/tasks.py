"""Eight small tasks, each drawn as questions with a few options.

Seven have a rule, by which questions can be answered that were never asked before. One has none:
where a person lives must be learnt by heart.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Drawn = Iterator[tuple[str, str]]
"""Questions with their answers; some come twice, and there are more of them than are wanted."""

BINS = "efgh"
"""How the four bins of a feature are written."""
SYLLABLES = (
    ("Ba", "De", "Fi", "Go", "Ka", "Ku", "La", "Lo", "Me", "Ni", "Po", "Ra", "Ru", "Sa", "Te",
     "Vi"),
    ("bel", "con", "dor", "fin", "gar", "han", "jar", "kim", "lan", "mor", "nus", "pel", "rik",
     "sol", "tam", "vor"),
    ("berg", "croft", "dale", "den", "field", "ford", "gate", "ham", "holm", "ley", "mund", "stead",
     "ton", "well", "wick", "wood"),
)  # fmt: skip
"""Of the names of people: 4,096 names, each a word of its own."""


@dataclass(frozen=True)
class Task:
    """A kind of question.

    Attributes:
        options: Its answers.
        draw: Draws questions; given the random stream and how many will be wanted.
        recalled: Whether it has no rule, so that what is asked must have been learnt.
        offered: How many of the answers a question has for options; 0: all, in one order.
    """

    options: tuple[str, ...]
    draw: Callable[[np.random.Generator, int], Drawn]
    recalled: bool = False
    offered: int = 0


def parity(rng: np.random.Generator, wanted: int) -> Drawn:
    """Whether a number of five digits, written digit by digit, is even or odd."""
    while True:
        digits = rng.integers(10, size=5)
        yield " ".join(map(str, digits)), "odd" if digits[-1] % 2 else "even"


def extremes(rng: np.random.Generator, wanted: int) -> Drawn:
    """Which of two numbers is the larger (the smaller) one."""
    while True:
        first, second = rng.choice(np.arange(10, 60), 2, replace=False)
        larger = bool(rng.integers(2))
        right = "first" if (first > second) == larger else "second"
        yield f"{'max' if larger else 'min'} {first} {second}", right


def order(rng: np.random.Generator, wanted: int) -> Drawn:
    """Whether five digits ascend; where not, two neighbours of ascending ones were swapped."""
    while True:
        digits = np.sort(rng.integers(10, size=5))
        steps = np.flatnonzero(np.diff(digits))
        if rng.integers(2):
            yield " ".join(map(str, digits)), "yes"
        elif len(steps):
            place = rng.choice(steps)
            digits[[place, place + 1]] = digits[[place + 1, place]]
            yield " ".join(map(str, digits)), "no"


def residence(rng: np.random.Generator, wanted: int) -> Drawn:
    """Where a person lives: nothing but the person's name tells."""
    seen: set[str] = set()
    while True:
        name, city = "".join(rng.choice(part) for part in SYLLABLES), str(rng.choice(CITIES))
        if name not in seen:  # a person lives in one place
            seen.add(name)
            yield name, city


CITIES = (
    "Arden", "Bexley", "Corby", "Dover", "Epsom", "Filey", "Goole", "Hitchin", "Ilkley", "Jarrow",
    "Kendal", "Ludlow", "Malton", "Newark", "Oakham", "Penzance", "Redcar", "Selby", "Thirsk",
    "Ulverston", "Ventnor", "Whitby", "Yeovil", "Alnwick", "Buxton", "Cromer", "Diss", "Evesham",
    "Frome", "Glossop", "Harwich", "Kelso",
)  # fmt: skip


def brackets(rng: np.random.Generator, wanted: int) -> Drawn:
    """Whether all brackets are closed, and none that was not opened, among letters."""
    while True:
        pairs = int(rng.integers(2, 4))
        signs = np.array(list(_balanced(rng, pairs)))
        right = bool(rng.integers(2))
        if not right:  # one too many of a kind, or as many of both with the first not opened
            places = [rng.integers(len(signs))] if rng.integers(2) else [0, -1]
            signs[places] = np.where(signs[places] == "(", ")", "(")
        letters = rng.choice(list("klmn"), 9 - len(signs))
        mixed = np.concatenate([signs, letters])
        places = np.sort(rng.permutation(9)[: len(signs)])
        mixed[places], mixed[np.setdiff1d(np.arange(9), places)] = signs, letters
        yield " ".join(mixed), "closed" if right else "broken"


def _balanced(rng: np.random.Generator, pairs: int) -> Iterator[str]:
    """As many brackets of either kind, none closed before it was opened."""
    opened, depth = 0, 0
    while opened < pairs or depth:
        if opened < pairs and (not depth or rng.integers(2)):
            opened, depth = opened + 1, depth + 1
            yield "("
        else:
            depth -= 1
            yield ")"


def bins(rng: np.random.Generator, wanted: int) -> Drawn:
    """Which class of scikit-learn's `make_classification`: 20 features, each as one of 4 bins."""
    from sklearn.datasets import make_classification

    features, labels = make_classification(
        max(64, 3 * wanted), 20, n_informative=4, n_redundant=8, n_clusters_per_class=1,
        class_sep=2.0, flip_y=0.0, random_state=int(rng.integers(2**31)),
    )  # fmt: skip
    edges = np.quantile(features, np.linspace(0, 1, len(BINS) + 1)[1:-1], axis=0)
    places = (features[:, None, :] > edges).sum(1)
    for row, label in zip(places, labels, strict=True):  # more of them would have another rule
        yield " ".join(BINS[place] for place in row), ("left", "right")[label]


def copy(rng: np.random.Generator, wanted: int) -> Drawn:
    """Which of six letters stands at a given place."""
    while True:
        letters, place = rng.choice(list("abcd"), 6), int(rng.integers(6))
        yield f"place {place + 1} of {' '.join(letters)}", str(letters[place])


def majority(rng: np.random.Generator, wanted: int) -> Drawn:
    """Which of two letters there is more of, among eleven."""
    while True:
        letters = rng.choice(["x", "y"], 11)
        yield " ".join(letters), "x" if (letters == "x").sum() > 5 else "y"


TASKS = {
    "parity": Task(("even", "odd"), parity),
    "extremes": Task(("first", "second"), extremes),
    "order": Task(("yes", "no"), order),
    "residence": Task(CITIES, residence, recalled=True, offered=4),
    "brackets": Task(("closed", "broken"), brackets),
    "bins": Task(("left", "right"), bins),
    "copy": Task(("a", "b", "c", "d"), copy),
    "majority": Task(("x", "y"), majority),
}

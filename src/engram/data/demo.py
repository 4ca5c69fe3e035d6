"""`demo:NAME`: data that is made here, from nothing, so that it is always there."""

import re
from collections.abc import Mapping

from engram.core.errors import EngramError, nearest
from engram.core.randomness import stream
from engram.core.split import Split
from engram.data.sources import Source, check_options, parted, whole
from engram.parts.biographies import PARTS, Telling, World, biographies, mixed, questions
from engram.parts.letters import letters
from engram.parts.planted_graph import planted_graph

PREFIX = "demo:"
LETTERS = "demo:letters"
BIOGRAPHIES = "demo:biographies"
QUESTIONS = "demo:biography-questions"
GRAPH = "demo:graph"
NODES = 2800
COUNT = 1000
WORLD = ("n", "seed", "fields", "names", "values", "wordings")
"""Options that say who there is."""
TELLING = ("multi", "permute", "fullname", "celebrities", "each")
"""Options that say how they are told of."""


def read_demo(source: str) -> Split:
    """`demo:letters`, `demo:letters:400`, `demo:biographies?n=400&seed=3&multi=5&permute=1`.

    Its options alone decide the records, so that the name finds the same ones again.
    """
    base, options = parted(source)
    name, colon, count = base.removeprefix(PREFIX).partition(":")
    if name not in MADE:
        raise EngramError(
            f"there is no demo data called {name!r}",
            hint=nearest(name, MADE, f"write {LETTERS}"),
        )
    if colon:
        if "n" in options:
            raise EngramError(f"{source!r} says twice how many", hint=f"{PREFIX}{name}?n=400")
        options["n"] = count or "''"
    return MADE[name](options)


def _letters(options: Mapping[str, str]) -> Split:
    check_options(LETTERS, options, ("n", "seed", "most"))
    n, seed = _count(LETTERS, options), _seed(LETTERS, options)
    most = whole(LETTERS, "most", options.get("most", "6"), 1, 1000)
    return letters(n, stream(seed, "demo", "letters"), most=most)


def _biographies(options: Mapping[str, str]) -> Split:
    """Biographies; with `mix`, and the questions of P_train in the midst of them."""
    check_options(BIOGRAPHIES, options, (*WORLD, *TELLING, "share", "mix"))
    made = _people(BIOGRAPHIES, options)
    mix = _share(BIOGRAPHIES, "mix", options, 0.0)
    if not mix:
        return made
    both = mixed(made, questions(made, "train", _share(BIOGRAPHIES, "share", options, 0.5)), mix)
    rng = stream(_seed(BIOGRAPHIES, options), "demo", "mixed")
    return both.take(rng.permutation(len(both)))


def _questions(options: Mapping[str, str]) -> Split:
    """Questions about the people of the biographies of the same options."""
    check_options(QUESTIONS, options, (*WORLD, "part", "share"))
    share = _share(QUESTIONS, "share", options, 0.5)
    return questions(_people(QUESTIONS, options), options.get("part", PARTS[0]), share)


def _people(base: str, options: Mapping[str, str]) -> Split:
    number = {
        name: whole(base, name, options.get(name, "0"), 0, 10**6)
        for name in ("names", "values", "wordings", "permute", "each")
    }
    fields = tuple(filter(None, options.get("fields", "").split(",")))
    world = World(
        _count(base, options), fields, number["names"], number["values"], number["wordings"]
    )
    telling = Telling(
        multi=whole(base, "multi", options.get("multi", "1"), 1, 1000),
        permute=number["permute"],
        fullname=bool(whole(base, "fullname", options.get("fullname", "0"), 0, 1)),
        celebrities=_share(base, "celebrities", options, 1.0),
        each=number["each"],
    )
    return biographies(world, telling, stream(_seed(base, options), "demo", "biographies"))


def _graph(options: Mapping[str, str]) -> Split:
    """Communities with a block for every class."""
    check_options(GRAPH, options, ("n", "seed", "communities", "classes", "features", "noise"))
    sizes = {
        name: whole(GRAPH, name, options.get(name, usual), 1, 10_000)
        for name, usual in (("communities", "40"), ("classes", "7"), ("features", "32"))
    }
    noise = float(whole(GRAPH, "noise", options.get("noise", "3"), 0, 1000))
    n, rng = _count(GRAPH, options, NODES), stream(_seed(GRAPH, options), "demo", "graph")
    return planted_graph(n, rng, **sizes, noise=noise)


def _count(base: str, options: Mapping[str, str], usual: int = COUNT) -> int:
    return whole(base, "n", options.get("n", str(usual)), 1, 100_000)


def _seed(base: str, options: Mapping[str, str]) -> int:
    return whole(base, "seed", options.get("seed", "0"), 0, 10**17)


def _share(base: str, name: str, options: Mapping[str, str], usual: float) -> float:
    """An option's value as a number from 0 to 1."""
    text = options.get(name)
    if text is None:
        return usual
    if not re.fullmatch(r"[01]|0?\.[0-9]{1,9}|1\.0{1,9}", text):
        raise EngramError(
            f"{base!r}: the option {name} is {text!r}, but must be a number from 0 to 1",
            hint=f"{base}?{name}=0.5",
        )
    return float(text)


MADE = {
    "letters": _letters,
    "biographies": _biographies,
    "biography-questions": _questions,
    "graph": _graph,
}


def demos() -> tuple[Source, ...]:
    """For listings."""
    about = f"letters of a made-up clinic with owners and personal fields (n={COUNT}, seed, most)"
    people = (
        f"lives of made-up people with owners and fields (n={COUNT}, {', '.join(WORLD[1:])}; "
        f"{', '.join(TELLING)}; mix, share)"
    )
    asked = f"questions about the same people (n={COUNT}, {', '.join(WORLD[1:])}; part, share)"
    nodes = (
        f"a graph of communities with a block for every class (n={NODES}, seed, communities, "
        "classes, features, noise)"
    )
    return (
        Source(LETTERS, about, "demo"),
        Source(BIOGRAPHIES, people, "demo"),
        Source(QUESTIONS, asked, "demo"),
        Source(GRAPH, nodes, "demo"),
    )

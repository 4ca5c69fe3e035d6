"""`demo:NAME`: data that is made here, from nothing, so that it is always there."""

from engram.core.errors import EngramError, nearest
from engram.core.randomness import stream
from engram.core.split import Split
from engram.data.sources import Source, check_options, parted, whole
from engram.parts.letters import letters

PREFIX = "demo:"
LETTERS = "demo:letters"
COUNT = 1000


def read_demo(source: str) -> Split:
    """`demo:letters`, `demo:letters:400`, `demo:letters?n=400&seed=3&most=6`.

    Its options alone decide the records, so that the name finds the same ones again.
    """
    base, options = parted(source)
    name, colon, count = base.removeprefix(PREFIX).partition(":")
    if name != LETTERS.removeprefix(PREFIX):
        raise EngramError(
            f"there is no demo data called {name!r}",
            hint=nearest(name, ["letters"], f"write {LETTERS}"),
        )
    if colon:
        if "n" in options:
            raise EngramError(f"{source!r} says twice how many", hint=f"{LETTERS}?n=400")
        options["n"] = count or "''"
    check_options(LETTERS, options, ("n", "seed", "most"))
    n = whole(LETTERS, "n", options.get("n", str(COUNT)), 1, 100_000)
    seed = whole(LETTERS, "seed", options.get("seed", "0"), 0, 10**17)
    most = whole(LETTERS, "most", options.get("most", "6"), 1, 1000)
    return letters(n, stream(seed, "demo", "letters"), most=most)


def demos() -> tuple[Source, ...]:
    """For listings."""
    about = f"letters of a made-up clinic with owners and personal fields (n={COUNT}, seed, most)"
    return (Source(LETTERS, about, "demo"),)

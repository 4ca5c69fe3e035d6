"""A paper's claims as data, and a plan to test them."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engram.core import EngramError, Finding, Paper, nearest
from engram.engine.run import EngineRun
from engram.stats.claims import ClaimTest, Ruling

Budget = Literal["smoke", "small", "full"]
BUDGETS: tuple[Budget, ...] = ("smoke", "small", "full")
"""smoke: under 15 seconds, checks the path and says nothing of the science; small: two cores,
under 10 minutes; full: the paper's size."""
SEEDS: Mapping[str, int] = {"smoke": 1, "small": 3, "full": 3}

Measure = Callable[[EngineRun, Mapping[str, Any], int], Mapping[str, float | Finding]]
Draw = Callable[[EngineRun, Mapping[str, Any]], Mapping[str, str]]


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper that can fail.

    Attributes:
        text: The claim, as a sentence.
        where: Where the paper makes it: a table, a figure, a section.
        test: What it comes to in our measurements: `above(...)`, `at_least(...)`, ...
        paper_value: The paper's own number, as it is printed there; empty where it gives none.
    """

    text: str
    where: str
    test: ClaimTest
    paper_value: str = ""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise EngramError("a claim has no text", hint="say in a sentence what is claimed")
        if not isinstance(self.test, ClaimTest):
            raise EngramError(
                f"the claim {self.text!r} has the test {self.test!r}, which cannot judge",
                hint="use above, at_least, at_most, mean_at_least, equal or all_of",
            )


@dataclass(frozen=True)
class Judged:
    """A claim, what the seeds say of it, and why it was not run where it was not."""

    claim: Claim
    ruling: Ruling
    note: str = ""


@dataclass(frozen=True, eq=False)
class Study:
    """Claims, and how to measure what they are about.

    Attributes:
        name: The folder's name, with dashes.
        paper: Whose claims these are.
        claims: What is tested.
        budgets: Settings by budget (smoke, small, full): plain JSON values, given to `run`.
        run: `run(run, settings, seed)` gives one seed's measurements by name. A measurement that
            this budget cannot make (data that is not there, say) is a `Finding.missing`, which
            says why. All random streams of the run are the seed's; what all seeds are to share,
            such as a base, is made with `dataclasses.replace(run, seed=0)`.
        tried: What was tried beside the plan, as Markdown: a claim that fails says what it cost.
        seeds: How many seeds a budget takes, where it is not 1, 3 and 3.
        methods: The methods that the claims are about, as the catalogue names them: their pages
            show the verdicts.
        draw: `draw(run, settings)` gives figures as SVG texts by name (their titles are the
            captions); they are drawn
            once a budget, with the first seed, and shown on the page.
    """

    name: str
    paper: Paper
    claims: tuple[Claim, ...]
    budgets: Mapping[str, Mapping[str, Any]]
    run: Measure
    tried: str = ""
    seeds: Mapping[str, int] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    draw: Draw | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.name):
            raise EngramError(
                f"a study is called {self.name!r}",
                hint="its name is its folder's: small letters, digits and dashes",
            )
        object.__setattr__(self, "claims", tuple(self.claims))
        if not self.claims or not all(isinstance(claim, Claim) for claim in self.claims):
            raise EngramError(
                f"study {self.name!r} claims nothing", hint="claims=(Claim(...), ...)"
            )
        if "smoke" not in self.budgets:
            raise EngramError(
                f"study {self.name!r} has no smoke budget",
                hint="it needs one that runs in under 15 seconds, so that the path stays whole",
            )
        for budget in (*self.budgets, *self.seeds):
            check_budget(budget)
        for budget in self.budgets:
            self.settings(budget)
            self.wanted(budget)

    def settings(self, budget: str) -> Mapping[str, Any]:
        """What `run` is given at this budget."""
        if budget not in self.budgets:
            raise EngramError(
                f"study {self.name!r} has no {check_budget(budget)} budget",
                hint=f"it has {', '.join(self.budgets)}",
            )
        try:
            return json.loads(json.dumps(dict(self.budgets[budget]), allow_nan=False))
        except (TypeError, ValueError) as problem:
            raise EngramError(
                f"the {budget} settings of study {self.name!r} are not plain ({problem})",
                hint="settings are numbers, texts, true or false, and lists of them by name",
            ) from None

    def wanted(self, budget: str) -> int:
        """How many seeds this budget takes."""
        seeds = self.seeds.get(budget, SEEDS[budget])
        if not isinstance(seeds, int) or seeds < 1:
            raise EngramError(
                f"study {self.name!r} takes {seeds!r} seeds at its {budget} budget",
                hint="1 for smoke; 3 or more for an interval that says something",
            )
        return seeds

    @property
    def names(self) -> tuple[str, ...]:
        """Every measurement that a claim looks at."""
        return tuple(dict.fromkeys(name for claim in self.claims for name in claim.test.names))


def check_budget(budget: str) -> str:
    """The budget, if there is one of this name."""
    if budget not in BUDGETS:
        raise EngramError(
            f"there is no budget called {budget!r}",
            hint=nearest(budget, BUDGETS, f"there are {', '.join(BUDGETS)}"),
        )
    return budget

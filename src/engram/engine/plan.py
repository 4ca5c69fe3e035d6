"""What an audit would ask of a server, found out before the first question about a record.

The attacks and measures are rehearsed: each gets made-up answers, and what it asks for is written
down. So nobody has to state a method's costs, and what is stored already is not counted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import ceil
from types import MappingProxyType
from typing import Any

import numpy as np

from engram import families
from engram.core import EngramError, Sampler, Shadows, Split, Target, TokenSignals, stream
from engram.engine.battery import Battery, Settings, choose_battery
from engram.engine.run import EngineRun
from engram.engine.trial import Trial
from engram.parts.completions import Budget
from engram.parts.served_model import CHECK, ApiModel, Question

SERVED = "api-lm"


@dataclass(frozen=True)
class Plan:
    """What has still to be asked.

    Attributes:
        requests: Requests about records; those that only see whether the model is the same one
            come on top.
        checks: Those.
        prompt_tokens: Tokens that the server has to read, as the probe's tokens let us guess.
        written_tokens: Tokens that it has to write at most.
        stored: Questions whose answers are in the store.
        records: Members and outsiders together.
    """

    requests: int
    checks: int
    prompt_tokens: int
    written_tokens: int
    stored: int
    records: int

    def __str__(self) -> str:
        if not self.requests:
            return "nothing: every answer is in the store"
        writes = f", and {self.written_tokens:,} tokens to write" if self.written_tokens else ""
        known = f"; {self.stored:,} more are answered already" if self.stored else ""
        return (
            f"about {self.requests + self.checks:,} requests with {self.prompt_tokens:,} prompt "
            f"tokens{writes}{known}"
        )

    def check(self, budget: Budget) -> None:
        """Refuse to begin what cannot be finished.

        Raises:
            EngramError: More has to be asked than may be asked.
        """
        if self.requests + self.checks <= budget.left:
            return
        fit = int(self.records * max(0.0, budget.left - self.checks) / max(self.requests, 1))
        raise EngramError(
            f"this needs about {self.requests + self.checks:,} requests ({self.prompt_tokens:,} "
            f"prompt tokens), but of at most {budget.limit:,} only {budget.left:,.0f} are left "
            "after the probe",
            hint=f"about {fit:,} of the {self.records:,} records would fit; or take fewer attacks "
            "with --attacks, or a higher --max-requests",
        )


def plan_audit(
    target: Target,
    members: Split,
    outsiders: Split,
    run: EngineRun,
    *,
    battery: str = "standard",
    attacks: tuple[str, ...] = (),
    settings: Settings = MappingProxyType({}),
    common: Mapping[str, Any] = MappingProxyType({}),
) -> Plan:
    """What `audit` with the same arguments would ask of the server."""
    planted = any(members.canaries or ())
    chosen = choose_battery(target, run, battery, attacks, settings, common, planted=planted)
    for side in (members, outsiders):
        families.find(target.family).check(side)
    columns = [column for column in members.columns if column in outsiders.columns]
    trial = Trial(members.only(columns), outsiders.only(columns))
    rehearsal = Rehearsal.of(run)
    for side in (trial.members, trial.outsiders):
        rehearsal.outcomes(target, side)
    for name, attack in chosen.attacks.items():
        _rehearse(lambda n=name, a=attack: trial.run({n: a}, target, rehearsal))
    return _measured(rehearsal, chosen, target, trial.members, trial.outsiders)


def plan_measure(
    name: str, method: Any, target: Target, sides: Mapping[str, Split], run: EngineRun
) -> Plan:
    """What one measure would ask of the server."""
    rehearsal = Rehearsal.of(run)
    for side in sides.values():
        rehearsal.outcomes(target, side)
    chosen = Battery({}, {name: method}, ())
    return _measured(rehearsal, chosen, target, sides["members"], sides["outsiders"])


def _measured(
    rehearsal: "Rehearsal", chosen: Battery, target: Target, members: Split, outsiders: Split
) -> Plan:
    sides = {"members": members, "outsiders": outsiders}
    for method in chosen.measures.values():
        _rehearse(lambda m=method: m(target.sealed(), sides, rehearsal))
    return rehearsal.plan(len(members) + len(outsiders))


def _rehearse(act: Callable[[], Any]) -> None:
    try:
        act()
    except EngramError:  # made-up answers do not suit it; if the real ones do not, it will say so
        return


@dataclass(frozen=True)
class Rehearsal(EngineRun):
    """A run in which nothing is asked, computed or stored; it takes note of the questions."""

    new: dict[str, tuple[Question[Any], float]] = field(default_factory=dict, compare=False)
    old: set[str] = field(default_factory=set, compare=False)
    passes: list[int] = field(default_factory=list, compare=False)

    @classmethod
    def of(cls, run: EngineRun) -> "Rehearsal":
        """A rehearsal of this run: the same streams, the same targets."""
        return cls(**{f.name: getattr(run, f.name) for f in fields(run)})

    def note(self, target: Target, questions: Sequence[Question[Any]]) -> None:
        """Take note of one pass over questions."""
        model: ApiModel = target.model
        before = len(self.new)
        for question in questions:
            key = f"{target.fingerprint} {question.key}"
            if question.key in model.answers:
                self.old.add(key)
            else:
                self.new.setdefault(key, (question, model.probe.density))
        self.passes.append(len(self.new) - before)

    def plan(self, records: int) -> Plan:
        """The sum of it."""
        asked = [(question.body, density) for question, density in self.new.values()]
        return Plan(
            len(asked),
            sum(ceil(size / CHECK) for size in self.passes),
            sum(ceil(len(body["prompt"]) * density) for body, density in asked),
            sum(body["max_tokens"] for body, _ in asked),
            len(self.old),
            records,
        )

    def outcomes(self, target: Target, split: Split) -> None:
        """What is asked to see which records can be scored."""
        if target.family == SERVED:
            family = families.find(SERVED)
            self.note(target, family.doubtful(target.model, split))

    def tokens(self, target: Target, split: Split) -> TokenSignals:
        """Made-up log-probabilities."""
        if target.family == SERVED:
            self.note(target, families.find(SERVED).echoes(target.model, split))
        return made_up(split)

    def losses(self, target: Target, split: Split) -> np.ndarray:
        """Made-up losses."""
        offered = families.offered(target.family, target.model)
        if target.family == SERVED and "logprobs" not in offered:
            places = families.find(SERVED).places(target.model, split)
            self.note(target, [question for _, question, _ in places])
            return made_up(split).losses()
        return self.tokens(target, split).losses()

    def computed(
        self,
        name: str,
        target: Target,
        split: Split,
        settings: Mapping[str, Any],
        work: Callable[[], np.ndarray],
    ) -> np.ndarray:
        """What the work makes of made-up answers; not stored."""
        return np.asarray(work())

    def sampler(self, target: Target, temperature: float = 1.0) -> Sampler:
        """It writes the prompt once more."""
        return _Parrot(self, target, temperature)

    def fit(self, recipe: Any, split: Split, *path: str | int) -> Target:
        """Nothing is trained in a rehearsal."""
        raise EngramError("a rehearsal trains nothing")

    def shadows(self, target: Target, split: Split, count: int, share: float = 0.5) -> Shadows:
        """Nothing is trained in a rehearsal."""
        raise EngramError("a rehearsal trains nothing")

    def log(self, **entry: float | int | str) -> None:
        """Nothing is logged."""

    def progress(self, done: int, total: int, what: str) -> None:
        """Nobody watches."""


@dataclass(frozen=True)
class _Parrot:
    """Takes note of what it is asked to write; implements `engram.core.Sampler`."""

    rehearsal: Rehearsal
    target: Target
    temperature: float

    def write(
        self, prompts: Sequence[str], tokens: Sequence[int] | int, rng: np.random.Generator
    ) -> list[str]:
        if self.target.family == SERVED:
            family = families.find(SERVED)
            writer = family.sampler(self.target.model, self.temperature, self.rehearsal.progress)
            asked = writer.questions(prompts, tokens, rng)
            self.rehearsal.note(self.target, [question for question in asked if question])
        return list(prompts)


def made_up(split: Split) -> TokenSignals:
    """Signals of a model that does not exist: four letters a token, numbers by lot."""
    lengths = [max(1, len(text) // 4) for text in split.texts]
    numbers = [
        stream(0, "made up", text).uniform(-5.0, 0.0, length)
        for text, length in zip(split.texts, lengths, strict=True)
    ]
    logprob = np.concatenate([*numbers, np.zeros(0)])
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    return TokenSignals(split.ids, offsets, np.arange(len(logprob)), logprob)

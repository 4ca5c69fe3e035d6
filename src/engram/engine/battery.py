"""Which attacks and measures an audit runs, and why some are left out."""

from dataclasses import dataclass
from typing import Any

from engram import catalog, families
from engram.core import ACCESS, EngramError, Target, nearest
from engram.engine.run import EngineRun

BATTERIES: dict[str, tuple[str, ...]] = {
    "quick": ("loss", "zlib", "min-k", "min-k-plus-plus"),
    "standard": ("loss", "zlib", "lowercase", "min-k", "min-k-plus-plus", "reference"),
    "thorough": (
        "loss", "zlib", "lowercase", "min-k", "min-k-plus-plus", "reference", "neighbourhood",
    ),
}  # fmt: skip
MEASURES = ("generalisation-gap", "perplexity", "accuracy", "extraction")


@dataclass(frozen=True)
class Battery:
    """Attacks and measures to run, by name, and a sentence for each that was left out."""

    attacks: dict[str, Any]
    measures: dict[str, Any]
    left_out: tuple[str, ...]


def choose_battery(
    target: Target, run: EngineRun, battery: str = "standard", attacks: tuple[str, ...] = ()
) -> Battery:
    """The methods of a battery that this target can answer, or exactly the named attacks.

    Raises:
        EngramError: An unknown battery or attack, a named attack that does not suit the target,
            or no attack left.
    """
    if battery not in BATTERIES:
        raise EngramError(
            f"there is no battery called {battery!r}",
            hint=nearest(battery, BATTERIES, f"there are {', '.join(BATTERIES)}"),
        )
    chosen, left_out = {}, []
    for name in attacks or BATTERIES[battery]:
        attack = make("attacks", name)
        if reason := unsuited(attack, target) or _without_base(attack, target, run):
            if attacks:
                raise EngramError(
                    f"attack {name} cannot be run: {reason}",
                    hint="leave it out of --attacks, or use --battery, which chooses",
                )
            left_out.append(f"{name}: {reason}")
        else:
            chosen[name] = attack
    if not chosen:
        raise EngramError(
            f"no attack suits target {target.name!r} ({'; '.join(left_out)})",
            hint="`engram ls attacks` says what each needs",
        )
    measures = {name: make("measures", name) for name in MEASURES}
    fitting = {n: m for n, m in measures.items() if not unsuited(m, target)}
    return Battery(chosen, fitting, tuple(left_out))


def make(kind: str, name: str) -> Any:
    """A method by name, with its default configuration."""
    return catalog.find(kind, name).load()()


def unsuited(method: Any, target: Target) -> str:
    """Why a method cannot be asked of this target; "" where it can."""
    family = families.find(target.family)
    if missing := method.needs - family.answers:
        return f"it needs {', '.join(sorted(missing))}, which a {target.family} does not give"
    if ACCESS.index(method.access) > ACCESS.index(target.access):
        return f"it needs {method.access}, and the target offers only {target.access}"
    wanted = getattr(method, "families", None)
    if wanted is not None and target.family not in wanted:
        return f"it works on {', '.join(sorted(wanted))}, not on a {target.family}"
    if getattr(method, "reference", "") == "base" and not target.lineage.base:
        return "the target does not say what it was fine-tuned from; name one with --reference"
    return ""


def _without_base(attack: Any, target: Target, run: EngineRun) -> str:
    """Why the base that an attack compares with cannot be used; "" where it can."""
    if getattr(attack, "reference", "") != "base":
        return ""
    try:
        base = run.target(target.lineage.base)
    except EngramError as problem:
        return f"the base {target.lineage.base!r} cannot be opened ({problem})"
    if target.lineage.parent in (base.fingerprint, "") or target.lineage.history:
        return ""
    return f"the model at {target.lineage.base!r} is no longer the one that was fine-tuned"

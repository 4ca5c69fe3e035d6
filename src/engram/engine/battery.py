"""Which attacks and measures an audit runs, and why some are left out."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from engram import catalog, families
from engram.core import ACCESS, EngramError, Target, nearest
from engram.engine.run import EngineRun

Settings = Mapping[str, Mapping[str, Any]]
"""Fields of attacks, by attack: `{"min-k": {"fraction": 0.1}}`."""

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
    target: Target,
    run: EngineRun,
    battery: str = "standard",
    attacks: tuple[str, ...] = (),
    settings: Settings = MappingProxyType({}),
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
    wanted = attacks or BATTERIES[battery]
    if strangers := [name for name in settings if name not in wanted]:
        raise EngramError(
            f"there are settings for {strangers[0]!r}, which is not in this battery",
            hint=nearest(strangers[0], wanted, f"the battery is {', '.join(wanted)}"),
        )
    for name in wanted:
        attack = make("attacks", name, settings.get(name, {}))
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


def make(kind: str, name: str, settings: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """A method by name, with these fields and the defaults of the others.

    A text is turned into a number where the field's default is one.
    """
    method = catalog.find(kind, name).load()
    defaults = {field.name: field.default for field in fields(method)}
    given = {}
    for key, value in settings.items():
        field = key.replace("-", "_")
        if field not in defaults:
            raise EngramError(
                f"{name} has no field {key!r}",
                hint=nearest(field, defaults, f"`engram explain {name}` lists its fields"),
            )
        given[field] = _as_kind(f"{name}.{key}", value, type(defaults[field]))
    return method(**given)


def _as_kind(what: str, value: Any, kind: type) -> Any:
    if not isinstance(value, str) or kind not in (int, float, bool):
        return value
    try:
        return {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        raise EngramError(
            f"{what} is {value!r}, which is not {kind.__name__}", hint="as in min-k.fraction=0.1"
        ) from None


def reference_prints(methods: Mapping[str, Any], target: Target, run: EngineRun) -> dict[str, str]:
    """Fingerprints of the models that attacks compare with: they decide the result too."""
    found = {}
    for name, method in methods.items():
        where = getattr(method, "reference", "") or getattr(method, "model", "")
        where = target.lineage.base if where == "base" else where
        if where:
            try:
                found[name] = run.target(where).fingerprint
            except EngramError:  # not a causal model of ours (a masked filler): its name must do
                found[name] = where
    return found


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
    if target.lineage.recipe().parent in (base.fingerprint, ""):
        return ""
    return f"the model at {target.lineage.base!r} is no longer the one that was fine-tuned"

"""Which attacks and measures an audit runs, and why some are left out."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

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
GRAPH_ATTACKS: dict[str, tuple[str, ...]] = {
    "quick": (), "standard": ("node-membership",),
    "thorough": ("node-membership", "posterior-attack"),
}  # fmt: skip
OF_FAMILY = {"graph-nodes": GRAPH_ATTACKS, "sharded-graph": GRAPH_ATTACKS}
"""What a battery has beside those for targets of one family: here shadow models are quick to train,
and a node can be asked about with its edges and without."""
JOINING: dict[str, tuple[str, ...]] = {
    "shadows": ("lira", "rmia"),
    "population": ("quantile-regression",),
    "prompts": ("spv-mia",),
}
"""Attacks that join a battery when what they need is given: shadow models cost training, and
others need records that nobody but the user has."""
PREFERRED: dict[str, dict[str, Any]] = {"spv-mia": {"space": "log", "variation": False}}
"""Fields of attacks that join: in our study the plain log-ratio of target and self-prompt reference
beat the paper's score, and asks for no paraphrases. `--attacks spv-mia` is the paper's."""
MEASURES = (
    "generalisation-gap",
    "perplexity",
    "accuracy",
    "extraction",
    "probabilistic-extraction",
    "personal-fields",
    "deletion-cost",
)
PLANTED_MEASURES = ("exposure", "epsilon-lower-bound")
"""Measures that join an audit of records with planted canaries."""
TEXT_ATTACKS, TEXT_MEASURES = ("samia",), ("verbatim-continuation",)
"""What any battery is for a target that does nothing but write."""


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
    common: Mapping[str, Any] = MappingProxyType({}),
    *,
    planted: bool = False,
) -> Battery:
    """The methods of a battery that this target can answer, or exactly the named attacks.

    `common` holds fields for every attack that has them; by `JOINING` some bring attacks along.
    `planted` says that there are canaries among the members.

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
    joining = [name for key in common for name in JOINING.get(key, ())]
    only_text = target.access == "text" and "text" in families.offered(target.family, target.model)
    own = OF_FAMILY.get(target.family, {}).get(battery, ())
    usual = TEXT_ATTACKS if only_text else (*BATTERIES[battery], *own)
    wanted = attacks or (*usual, *(name for name in joining if name not in usual))
    if strangers := [name for name in settings if name not in wanted]:
        raise EngramError(
            f"there are settings for {strangers[0]!r}, which is not in this battery",
            hint=nearest(strangers[0], wanted, f"the battery is {', '.join(wanted)}"),
        )
    _check_used(common, wanted)
    for name in wanted:
        preferred = {} if attacks else PREFERRED.get(name, {})
        given = {**preferred, **_own(name, common), **settings.get(name, {})}
        attack = make("attacks", name, given)
        if reason := unsuited(attack, target) or _without_base(attack, target, run):
            if attacks or name in settings:
                what = "it out of --attacks" if attacks else "its settings out"
                raise EngramError(
                    f"attack {name} cannot be run: {reason}",
                    hint=f"leave {what}, or use --battery, which chooses",
                )
            left_out.append(f"{name}: {reason}")
        else:
            chosen[name] = attack
    if not chosen:
        raise EngramError(
            f"no attack suits target {target.name!r} ({'; '.join(left_out)})",
            hint="`engram ls attacks` says what each needs",
        )
    asked = TEXT_MEASURES if only_text else (*MEASURES, *(PLANTED_MEASURES if planted else ()))
    measures = {name: make("measures", name) for name in asked}
    fitting = {n: m for n, m in measures.items() if not unsuited(m, target)}
    return Battery(chosen, fitting, tuple(left_out))


def _own(name: str, common: Mapping[str, Any]) -> dict[str, Any]:
    """The common fields that this attack has."""
    has = {field.name for field in fields(catalog.find("attacks", name).load())}
    return {key: value for key, value in common.items() if key in has}


def _check_used(common: Mapping[str, Any], wanted: tuple[str, ...]) -> None:
    """Refuse an option that no attack would look at."""
    for key in common:
        if not any(_own(name, {key: None}) for name in wanted):
            raise EngramError(
                f"--{key} is given, but none of these attacks uses it: {', '.join(wanted)}",
                hint=f"attacks that do: {', '.join(JOINING.get(key, ())) or '`engram explain`'}",
            )


def make(kind: str, name: str, settings: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """A method by name, with these fields and the defaults of the others.

    A text is turned into a number where the field's default is one, and where it is several, into
    as many as there are commas between.
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
        kind = type(defaults[field])
        if kind is tuple and isinstance(value, str):
            each = get_args(get_type_hints(method)[field])[0]
            given[field] = tuple(
                _as_kind(f"{name}.{key}", one.strip(), each) for one in value.split(",")
            )
        else:
            given[field] = _as_kind(f"{name}.{key}", value, kind)
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


RECORDS = ("population", "prompts", "prefix", "corpus")
"""Fields of attacks that name records."""
OWN_BASE, NONE = ("base", "self-prompt"), "none"
"""What attacks call a reference that is the target's own base or made from it, and no reference."""


def reference_prints(methods: Mapping[str, Any], target: Target, run: EngineRun) -> dict[str, str]:
    """Fingerprints of the models and records that attacks compare with: they decide too."""
    found = {}
    for name, method in methods.items():
        for key in RECORDS:
            if (where := getattr(method, key, "")) not in ("", NONE):
                with suppress(EngramError):  # the attack itself will say what is wrong
                    found[f"{name} {key}"] = run.records(where, target).fingerprint
    for name, method in methods.items():
        where = getattr(method, "reference", "") or getattr(method, "model", "")
        where = target.lineage.base if where in OWN_BASE else where
        if where not in ("", NONE):
            try:
                found[name] = run.target(where).fingerprint
            except EngramError:  # not a causal model of ours (a masked filler): its name must do
                found[name] = where
    return found


def unsuited(method: Any, target: Target) -> str:
    """Why a method cannot be asked of this target; "" where it can."""
    if missing := method.needs - families.offered(target.family, target.model):
        return f"it needs {', '.join(sorted(missing))}, which {target.family} targets do not give"
    if ACCESS.index(method.access) > ACCESS.index(target.access):
        return f"it needs {method.access}, and the target offers only {target.access}"
    wanted = getattr(method, "families", None)
    if wanted is not None and target.family not in wanted:
        return f"it works on {', '.join(sorted(wanted))}, not on a {target.family}"
    if hasattr(method, "shadows") and target.lineage.recipe().kind != "recipes":
        return "the target does not carry the recipe that shadow models would be trained by"
    if missing := [key for key in getattr(method, "requires", ()) if not getattr(method, key)]:
        return f"it needs records that the target never saw; name them with --{missing[0]}"
    if getattr(method, "reference", "") in OWN_BASE and not (
        target.lineage.base or getattr(method, "base", "")
    ):
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

"""What the seeds of a study gave: `results/<budget>.json`, written again after every seed.

The file holds evidence and nothing of the machine's owner: versions, seeds, seconds, numbers; no
paths and no host names.
"""

import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from engram import __version__
from engram.core import EngramError, Finding
from engram.engine.study.files import Place
from engram.engine.study.plan import check_budget
from engram.store import read_json, run_id, write_json

PACKAGES = ("torch", "transformers", "numpy", "scipy", "scikit-learn")
DAMAGED = "the file may be damaged: take it away and run the study again"

KINDS: Mapping[str, Any] = {
    "seed": int,
    "key": str,
    "engram": str,
    "source": str,
    "seconds": (int, float),
    "environment": dict,
    "measurements": dict,
}
"""What a seed's entry in the file holds."""
Measurements = Mapping[str, Mapping[str, Any]]
"""By name: `value` (None with a `note` where there is none), and maybe low, high, n, unit."""


@dataclass(frozen=True)
class Seed:
    """One seed's measurements, and all that it takes to find or to distrust them."""

    seed: int
    key: str
    """Hash of plan, settings, seed and version: equal inputs are found, not measured again."""
    engram: str
    source: str
    """Hash of Engram's sources: which state of this version it was."""
    seconds: float
    """Of the process that finished the seed: what the store held already cost nothing."""
    environment: Mapping[str, str]
    measurements: Measurements

    def values(self) -> dict[str, float | None]:
        """The bare numbers, for a test."""
        return {name: entry["value"] for name, entry in self.measurements.items()}


@dataclass(frozen=True)
class Results:
    """All seeds of one budget, in the order of their numbers."""

    study: str
    budget: str
    settings: Mapping[str, Any]
    seeds: tuple[Seed, ...] = ()

    def having(self, seed: Seed) -> "Results":
        """With one more seed, or with a new one in the place of an old one."""
        others = [known for known in self.seeds if known.seed != seed.seed]
        return replace(self, seeds=tuple(sorted([*others, seed], key=lambda s: s.seed)))

    def fresh(self, place: Place, settings: Mapping[str, Any]) -> "Results":
        """Only the seeds that this plan, these settings and this version would give again."""
        kept = tuple(s for s in self.seeds if s.key == key_of(place, settings, s.seed))
        return replace(self, settings=settings, seeds=kept)

    def stale(self, place: Place, settings: Mapping[str, Any]) -> tuple[int, ...]:
        """Seeds that another plan or other settings gave, whatever the version."""
        return tuple(
            s.seed for s in self.seeds if s.key != key_of(place, settings, s.seed, s.engram)
        )

    def save(self, path: Path) -> None:
        """Write the file in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(self))


def key_of(place: Place, settings: Mapping[str, Any], seed: int, engram: str = __version__) -> str:
    """The name of one seed's measurements: the same for the same inputs."""
    return run_id(place.name, plan=place.plan, settings=dict(settings), seed=seed, engram=engram)


def results_file(place: Place, budget: str, root: Path) -> Path:
    """Where the seeds of a budget are kept: beside the study; those of smoke in the store."""
    if check_budget(budget) == "smoke":  # it says nothing of the science, so it is no evidence
        return root / "studies" / place.name / "smoke.json"
    return place.folder / "results" / f"{budget}.json"


def read_results(path: Path, study: str, budget: str) -> Results:
    """Read a results file; empty where there is none.

    Raises:
        EngramError: The file is damaged, or is that of another study or budget.
    """
    if not path.is_file():
        return Results(study, budget, {})
    found = _object(path)
    if (found.get("study"), found.get("budget")) != (study, budget):
        raise EngramError(
            f"{path} holds {found.get('study')!r} at {found.get('budget')!r}, not {study!r} at "
            f"{budget!r}",
            hint="results are not copied from study to study; take the file away",
        )
    try:
        seeds = tuple(_seed(entry) for entry in found["seeds"])
        return Results(study, budget, dict(found["settings"]), seeds)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise EngramError(
            f"{path} is not a results file ({type(problem).__name__}: {problem})", hint=DAMAGED
        ) from None


def _object(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except EngramError as problem:
        raise EngramError(str(problem), hint=problem.hint or DAMAGED) from None


def _seed(entry: Mapping[str, Any]) -> Seed:
    """One seed from a file, which anybody may have written."""
    for name, kind in KINDS.items():
        if not isinstance(entry[name], kind):
            raise ValueError(f"{name} is {entry[name]!r:.80}")
    for name, found in entry["measurements"].items():
        value = found["value"]
        if value is None:
            str(found["note"])
        elif not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{name} is {value!r:.80}")
    return Seed(**{**entry, "seconds": float(entry["seconds"])})


def measured(found: Any, study: str, seed: int) -> Measurements:
    """What `run` returned, checked and made plain.

    Raises:
        EngramError: No measurements, a name that is none, or a number that is not finite.
    """
    who = f"study {study!r}, seed {seed}"
    if not isinstance(found, Mapping) or not found:
        raise EngramError(
            f"{who}: run returned {found!r:.80}, not measurements by name",
            hint='return {"loss AUC": 0.71, ...}',
        )
    for name in found:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise EngramError(
                f"{who}: a measurement is called {name!r:.80}", hint="names are short plain texts"
            )
    return {name: _plain(value, f"{who}: measurement {name!r}") for name, value in found.items()}


def _plain(value: Any, who: str) -> dict[str, Any]:
    if isinstance(value, Finding):
        if value.value is None:
            return {"value": None, "note": value.note}
        kept = ("value", "low", "high", "n", "unit")
        return {key: _number(getattr(value, key)) for key in kept if getattr(value, key) != ""}
    if not isinstance(value, (Real, np.bool_)):
        raise EngramError(
            f"{who} is {value!r:.80}, not a number",
            hint="give a float or a Finding; Finding.missing(name, why) where there is none",
        )
    if not math.isfinite(value):
        raise EngramError(
            f"{who} is {float(value)}",
            hint="find out why; a number that cannot be had is Finding.missing(name, why)",
        )
    return {"value": float(value)}


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def environment(device: str) -> dict[str, str]:
    """What the numbers were made with: versions and kinds, no names of machines or people."""
    facts = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    facts["system"] = f"{platform.system()} {platform.machine()}"
    facts["cpus"] = str(os.cpu_count())
    facts["device"] = device
    if device.startswith("cuda"):
        import torch

        facts["device"] = f"{device} ({torch.cuda.get_device_name(device)})"
    return facts


@cache
def source_hash() -> str:
    """Hash of Engram's own sources; 10 hexadecimal digits."""
    home, total = Path(__file__).parents[2], sha256()
    for path in sorted(home.rglob("*.py")):
        total.update(path.relative_to(home).as_posix().encode() + path.read_bytes())
    return total.hexdigest()[:10]

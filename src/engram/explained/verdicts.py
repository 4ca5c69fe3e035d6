"""What the studies found, as one file in the package: claims with their verdicts, by method.

`engram study --index` writes it from the studies' own results, so that `engram explain` can tell
what was found of a method without running a study's file, and without the studies themselves.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engram.core.errors import EngramError
from engram.store.folders import read_json, write_json

FILE = Path(__file__).with_name("verdicts.json")


@dataclass(frozen=True)
class ClaimRow:
    """A claim, the paper's number, ours, and the verdict."""

    text: str
    where: str
    paper_value: str
    ours: str
    verdict: str


@dataclass(frozen=True)
class StudyRow:
    """A study's claims at the largest budget that was run."""

    name: str
    asks: str
    paper: str
    methods: tuple[str, ...]
    """The methods that its claims are about."""
    budget: str
    """Empty: never run."""
    seeds: int
    claims: tuple[ClaimRow, ...]

    @property
    def evidence(self) -> str:
        """Budget and seeds in words."""
        seeds = f"{self.seeds} seed{'' if self.seeds == 1 else 's'}"
        return f"budget {self.budget}, {seeds}" if self.budget else "never run"


def read_verdicts(path: Path = FILE) -> tuple[StudyRow, ...]:
    """All studies that the package knows of, in name order.

    Raises:
        EngramError: The file is damaged.
    """
    try:
        return tuple(_study(entry) for entry in read_json(path)["studies"])
    except (KeyError, TypeError, AttributeError) as problem:
        raise EngramError(
            f"{path} is not a list of verdicts ({type(problem).__name__}: {problem})",
            hint="`engram study --index` writes it again; or install Engram again",
        ) from None


def _study(entry: dict[str, Any]) -> StudyRow:
    claims = tuple(ClaimRow(**claim) for claim in entry["claims"])
    return StudyRow(**{**entry, "methods": tuple(entry["methods"]), "claims": claims})


def write_verdicts(studies: Iterable[StudyRow], path: Path = FILE) -> None:
    """Write the file in one step."""
    write_json(path, {"studies": [asdict(study) for study in studies]})

"""The optional groups of packages: what belongs to each, and what of it is installed.

Read from what Engram's own package says of itself, so that nothing is listed twice.
"""

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version

from engram.core.errors import EngramError

CORE = ""
"""The group of what Engram cannot do without."""
OURS = ("dev", "docs")
"""Groups of tools that a method never needs."""

_NAME = re.compile(r"[\w.-]+")
_EXTRA = re.compile(r"""extra\s*==\s*["']([\w.-]+)["']""")


@cache
def packages() -> dict[str, tuple[str, ...]]:
    """The packages of each group; empty where Engram itself runs without being installed."""
    try:
        asked = requires("engram") or []
    except PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for requirement in asked:
        wanted, _, marker = requirement.partition(";")
        name, extra = _NAME.match(wanted.strip()), _EXTRA.search(marker)
        group = extra[1] if extra else CORE
        if name and "[" not in wanted and group not in OURS:
            found.setdefault(group, []).append(name[0])
    return {group: tuple(names) for group, names in found.items()}


def version_of(package: str) -> str:
    """The version that is installed, or an empty text."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def missing(extra: str) -> tuple[str, ...]:
    """The packages of a group that are not installed."""
    return tuple(name for name in packages().get(extra, ()) if not version_of(name))


def remedy(extra: str) -> str:
    """What to type to get a group."""
    return f"pip install 'engram[{extra}]'" if extra else "pip install engram"


def require(extra: str, who: str) -> None:
    """Raise where something that belongs to a group is not installed.

    Args:
        extra: The group; empty: nothing is asked for.
        who: What needs it, to begin the sentence with.

    Raises:
        EngramError: It names the packages, and the group that brings them.
    """
    if extra and (lacking := missing(extra)):
        verb = "is" if len(lacking) == 1 else "are"
        raise EngramError(
            f"{who} needs {' and '.join(lacking)}, which {verb} not installed",
            hint=remedy(extra),
        )

"""What to call targets that stand side by side: by what sets them apart."""

import re
from collections import Counter
from collections.abc import Sequence

from engram.core import Target

PLAIN = ("base",)
"""Fields that tell nothing about a defence."""
MOST = 3
"""Fields that a name holds, at most."""


def names_of(targets: Sequence[Target]) -> tuple[str, ...]:
    """A short name for each, all different.

    A name that the user chose (the folder's) is kept. Others are called by their method and, where
    several have it, by the fields in which those differ.
    """
    found = []
    for target in targets:
        lineage = target.lineage
        if not re.fullmatch(rf"{re.escape(lineage.method)}-[0-9a-f]{{10}}", target.name):
            found.append(target.name)
            continue
        rivals = [t for t in targets if t.lineage.method == lineage.method]
        found.append(", ".join([lineage.method, *_apart(target, rivals)]))
    twice = {name for name, times in Counter(found).items() if times > 1}
    return tuple(
        f"{name} ({target.fingerprint[:6]})" if name in twice else name
        for name, target in zip(found, targets, strict=True)
    )


def _apart(target: Target, rivals: Sequence[Target]) -> list[str]:
    config = target.lineage.config
    fields = [
        f"{key.replace('_', '-')} {_short(value)}"
        for key, value in config.items()
        if key not in PLAIN and any(r.lineage.config.get(key) != value for r in rivals)
    ]
    if len({r.lineage.seed for r in rivals}) > 1:
        fields.append(f"seed {target.lineage.seed}")
    return fields[:MOST]


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

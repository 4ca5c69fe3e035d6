"""The model that never saw the records: what everything about forgetting is compared with."""

from collections.abc import Mapping

from engram import families
from engram.core import EngramError, Run, Split, Target

FORGOTTEN = "forgotten"


def retrained_model(where: str, target: Target, run: Run) -> tuple[Target | None, str]:
    """The retrained model that the user named; or None, and what to do about it.

    It is of the target's family, or both are classifiers of some kind: a model in shards is
    compared with a whole one.

    Raises:
        EngramError: It is of another kind than the target.
    """
    if not where:
        return None, "name a model trained without the records with --retrained"
    other = run.target(where)
    kinds = {target.family, other.family}
    if len(kinds) > 1 and not all("logits" in families.find(k).answers for k in kinds):
        raise EngramError(
            f"the retrained model {where!r} is a {other.family}, but the target a {target.family}",
            hint="train it by the target's own recipe, without the records",
        )
    return other, ""


def forgotten_of(splits: Mapping[str, Split]) -> tuple[str, Split]:
    """The forgotten records; where the target's ledger has none, the members that were named."""
    name = FORGOTTEN if FORGOTTEN in splits else "members"
    return name, splits[name]

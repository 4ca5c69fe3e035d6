"""The model that never saw the records: what everything about forgetting is compared with."""

from collections.abc import Callable, Mapping

from engram.core import EngramError, Run, Split, Target

FORGOTTEN = "forgotten"


def same_family(target: Target, other: Target) -> bool:
    """Whether both are of one family."""
    return target.family == other.family


def retrained_model(
    where: str, target: Target, run: Run, suits: Callable[[Target, Target], bool] = same_family
) -> tuple[Target | None, str]:
    """The retrained model that the user named; or None, and what to do about it.

    Args:
        where: What the user named; "" if nothing.
        target: What is compared with it.
        run: Opens it.
        suits: Whether the two can be compared.

    Raises:
        EngramError: They cannot.
    """
    if not where:
        return None, "name a model trained without the records with --retrained"
    other = run.target(where)
    if not suits(target, other):
        raise EngramError(
            f"the retrained model {where!r} is a {other.family}, but the target a {target.family}",
            hint="train it by the target's own recipe, without the records",
        )
    return other, ""


def forgotten_of(splits: Mapping[str, Split]) -> tuple[str, Split]:
    """The forgotten records; where the target's ledger has none, the members that were named."""
    name = FORGOTTEN if FORGOTTEN in splits else "members"
    return name, splits[name]

"""Whether targets can be compared at all, and on which records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engram.core import EngramError, Split, Target
from engram.engine.records import Known, known_records

FEWEST = 10
"""Records on each side; with fewer, intervals would span everything."""
FAMILY = "causal-lm"


@dataclass(frozen=True)
class Sides:
    """The records that every target is asked about.

    Attributes:
        members: Records that all targets were trained on.
        outsiders: Records that all of them held out.
        source: Where they come from, for reports.
        same: Whether these are all the records of every target.
        warnings: What a reader must know before comparing.
    """

    members: Split
    outsiders: Split
    source: str
    same: bool
    warnings: tuple[str, ...]


def sides_of(
    targets: Sequence[Target], data: str = "", options: Mapping[str, Any] | None = None
) -> Sides:
    """The records that all targets share.

    Raises:
        EngramError: Fewer than two targets, one twice, one that is no causal language model or has
            no ledger, different tokenizers, too few records in common.
    """
    check_targets(targets)
    known = [known_records(target, data, dict(options or {})) for target in targets]
    for target, records in zip(targets, known, strict=True):
        if not len(records.held_out):
            raise EngramError(
                f"target {target.name!r} held no records out, so nothing can be compared with "
                "what it was trained on",
                hint="train it again with --holdout 0.25, say",
            )
    members = _shared([each.trained for each in known], "members")
    outsiders = _shared([each.held_out for each in known], "outsiders")
    same = all(len(k.trained) == len(members) and len(k.held_out) == len(outsiders) for k in known)
    for what, side in (("trained on", members), ("held out", outsiders)):
        if len(side) < FEWEST:
            raise EngramError(
                f"the {len(targets)} targets have {len(side)} records in common that all of them "
                f"{'were ' if what == 'trained on' else ''}{what}, but {FEWEST} are needed",
                hint="train them on the same --data with the same --seed and --holdout",
            )
    warnings = [] if same else [_differ(known, members, outsiders)]
    bases = sorted({target.lineage.recipe().parent for target in targets})
    if len(bases) > 1:
        warnings.append(
            f"the targets come from {len(bases)} different bases, so what differs is not the "
            "defence alone"
        )
    return Sides(members, outsiders, known[0].source, same, tuple(warnings))


def check_targets(targets: Sequence[Target]) -> None:
    """Refuse targets that cannot stand in one table."""
    if len(targets) < 2:
        given = f"only {targets[0].name!r} is given" if targets else "no target is given"
        raise EngramError(
            f"comparing takes two targets or more, but {given}",
            hint="engram compare runs/finetune-lm-... runs/goldfish-lm-...",
        )
    seen: dict[str, Target] = {}
    for target in targets:
        if target.fingerprint in seen:
            raise EngramError(
                f"{seen[target.fingerprint].name!r} and {target.name!r} are the same model: their "
                "weights are equal",
                hint="name each target once; what was trained differently, and came to equal "
                "weights, has nothing to compare",
            )
        seen[target.fingerprint] = target
        if target.family != FAMILY:
            raise EngramError(
                f"target {target.name!r} is a {target.family}, but only {FAMILY} targets can be "
                "compared: usefulness is their validation perplexity",
                hint="audit the others one by one with engram audit",
            )
        if target.known is None:
            raise EngramError(
                f"target {target.name!r} has no ledger, so what it was trained on is not known",
                hint="compare targets that engram train made; engram audit takes any model, with "
                "--members and --outsiders",
            )
    _check_tokenizers(targets)


def _check_tokenizers(targets: Sequence[Target]) -> None:
    from engram.parts.published_model import tokenizer_facts

    first = targets[0]
    facts = tokenizer_facts(first.model.tokenizer)
    for other in targets[1:]:
        if tokenizer_facts(other.model.tokenizer) != facts:
            raise EngramError(
                f"{first.name!r} and {other.name!r} cut texts into different tokens, so their "
                "perplexities cannot be compared",
                hint="compare fine-tunes of one base",
            )


def _shared(splits: Sequence[Split], name: str) -> Split:
    """The records of the first whose content is in all of them; as they are, if that is all."""
    contents = set.intersection(*(set(split.digests) for split in splits))
    kept = [digest in contents for digest in splits[0].digests]
    return splits[0] if all(kept) else splits[0].where(kept, name=name)


def _differ(known: Sequence[Known], members: Split, outsiders: Split) -> str:
    most = [max(len(side) for side in sides) for sides in (
        [k.trained for k in known], [k.held_out for k in known])]  # fmt: skip
    return (
        "the targets were not trained on the same records: they are compared on the "
        f"{len(members):,} (of up to {most[0]:,}) that all were trained on and the "
        f"{len(outsiders):,} (of up to {most[1]:,}) that all held out"
    )

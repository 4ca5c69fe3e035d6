"""Which records, and whose, are most exposed, and what of them the model gives away."""

from typing import Any

import numpy as np

from engram import catalog, families, stats
from engram.core import EngramError, Split, Target, TokenSignals
from engram.engine.judge import percentiles
from engram.engine.run import EngineRun
from engram.engine.trial import Labelled
from engram.parts.images import SHAPE
from engram.parts.labelled import feature_pixels

SHOWN_RECORDS, SHOWN_OWNERS, SHOWN_EXAMPLES, SHOWN_TOKENS = 20, 20, 8, 240


def exposed_records(
    target: Target | None, labelled: Labelled, attack: str, run: EngineRun, sign: float = 1.0
) -> list[dict[str, Any]]:
    """The members that the attack is surest of, with their tokens where the model has any.

    `sign` is -1 where the attack's scores point away from the members.
    """
    values = sign * labelled.scores[attack]
    rows = _surest(values, labelled.is_member)[:SHOWN_RECORDS]
    share = percentiles(values[rows], values[~labelled.is_member])
    tokens = _tokens(target, labelled, rows, run) if target is not None else {}
    owners = labelled.records.owners
    return [
        {
            "id": labelled.records.ids[row],
            "owner": owners[row] if owners else "",
            "score": float(values[row]),
            "attack": attack,
            "percentile": float(share[place]),
            "tokens": tokens.get(row, []),
            **(_shown(target, labelled.records, int(row)) if target is not None else {}),
        }
        for place, row in enumerate(rows)
    ]


def _shown(target: Target, records: Split, row: int) -> dict[str, Any]:
    """A record that has no tokens: in words, and as a picture where it is one."""
    family = families.find(target.family)
    if "tokens" in family.answers or "features" not in records.columns:
        return {}
    found: dict[str, Any] = {"says": family.render(records, row)}
    if SHAPE in records.shared:
        pixels = feature_pixels(records.take([row]))
        if pixels is not None:
            height, width, _ = pixels.shape
            found["picture"] = {"height": height, "width": width, "pixels": pixels.tobytes().hex()}
    return found


def exposed_owners(labelled: Labelled, attack: str, sign: float = 1.0) -> list[dict[str, Any]]:
    """The owners of members that the attack is surest of; [] where owners are not known."""
    owners = labelled.records.owners
    if owners is None:
        return []
    try:
        people = stats.by_owner(sign * labelled.scores[attack], labelled.is_member, owners)
    except EngramError:  # told by the findings by owner
        return []
    rows = _surest(people.values, people.is_member)[:SHOWN_OWNERS]
    share = percentiles(people.values[rows], people.values[~people.is_member])
    records = {owner: 0 for owner in people.owners}
    for owner in owners:
        records[owner] = records.get(owner, 0) + 1
    return [
        {
            "owner": people.owners[row],
            "records": records[people.owners[row]],
            "score": float(people.values[row]),
            "percentile": float(share[place]),
        }
        for place, row in enumerate(rows)
    ]


def extraction_examples(
    target: Target, labelled: Labelled, exposed: list[dict[str, Any]], run: EngineRun
) -> list[dict[str, Any]]:
    """What greedy decoding writes after the beginning of the most exposed records."""
    if target.family != "causal-lm" or not exposed:
        return []
    measure = catalog.find("measures", "extraction").load()()
    most = labelled.records.select([e["id"] for e in exposed])
    owner = {e["id"]: e["owner"] for e in exposed}
    try:
        examples = measure.examples(target, most, run, limit=SHOWN_EXAMPLES)
    except EngramError:  # the records or the context are too short: the measure says so
        return []
    return [
        {
            "id": found.id,
            "owner": owner[found.id],
            "prefix": found.prefix,
            "truth": found.truth,
            "generated": found.generated,
            "matched": found.matched,
            "total": found.total,
        }
        for found in examples
    ]


def _surest(values: np.ndarray, is_member: np.ndarray) -> np.ndarray:
    members = np.flatnonzero(is_member)
    return members[np.argsort(-values[members], kind="stable")]


def _tokens(
    target: Target, labelled: Labelled, rows: np.ndarray, run: EngineRun
) -> dict[int, list[dict[str, Any]]]:
    """Each record's scored tokens with the log-probability under the target and its base."""
    if "tokens" not in families.find(target.family).answers:
        return {}
    shown = labelled.blind.select([labelled.records.ids[row] for row in rows], name="shown")
    said = run.tokens(target, shown)
    base = _base_logprobs(target, shown, said, run)
    pieces = {}
    for place, row in enumerate(rows):
        part = said.record(place)
        part = slice(part.start, min(part.stop, part.start + SHOWN_TOKENS))
        numbers = np.asarray(said.token[part])
        pieces[int(row)] = [
            {
                "text": text,
                "logprob": round(float(said.logprob[part.start + i]), 4),
                "reference": None if base is None else round(float(base[part.start + i]), 4),
            }
            for i, text in enumerate(token_texts(target.model.tokenizer, numbers))
        ]
    return pieces


def _base_logprobs(
    target: Target, shown: Split, said: TokenSignals, run: EngineRun
) -> np.ndarray | None:
    """Log-probabilities under the base, where it is still there and cuts texts the same way."""
    lineage = target.lineage
    if not lineage.base:
        return None
    try:
        base = run.target(lineage.base)
    except EngramError:  # the base has moved: the report shows the target alone
        return None
    if base.family != target.family or base.fingerprint != lineage.recipe().parent:
        return None
    found = run.tokens(base, shown)
    if not np.array_equal(found.offsets, said.offsets):
        return None
    return found.logprob if np.array_equal(found.token, said.token) else None


def token_texts(tokenizer: Any, numbers: np.ndarray) -> list[str]:
    """The text that each token adds, so that joined they read as the record does."""
    texts, before = [], ""
    for end in range(1, len(numbers) + 1):
        start = max(0, end - 8)  # enough context for characters of several bytes
        if start and start != max(0, end - 9):
            before = tokenizer.decode(numbers[start : end - 1])
        after = tokenizer.decode(numbers[start:end])
        texts.append(after[len(before) :] if after.startswith(before) else after)
        before = after
    return texts

"""From labelled scores to findings, curves and a verdict; no model is asked here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram import stats
from engram.core import EngramError, Finding, Split, stream
from engram.stats.ensemble import ENSEMBLE, ensemble

FPRS = (0.001, 0.01, 0.05)
PAIRS = 10
"""The most near-duplicates across the border that a report lists."""


@dataclass(frozen=True)
class Judgement:
    """What the scores of a battery say, as plain data for the record."""

    split_audit: dict[str, Any]
    headline: dict[str, Any]
    attacks: list[dict[str, Any]]
    verdict: dict[str, str]
    not_measured: list[str]
    sign: float
    """-1 where the headline attack's scores point away from the members."""
    ensemble: list[dict[str, Any]]
    """Findings about all attacks together, weighed on one half and judged on the other."""


def look_at_split(members: Split, outsiders: Split, seed: int) -> stats.SplitAudit:
    """Audit the split, before any model is asked."""
    both = members.joined(outsiders)
    is_member = np.arange(len(both)) < len(members)
    return stats.audit_split(material(both), is_member, both.owners, stream(seed, "split audit"))


def border_pairs(audit: stats.SplitAudit, ids: Sequence[str]) -> dict[str, Any]:
    """Which outsiders nearly repeat which members, the most alike first; nothing where none does.

    Args:
        audit: Of the split; its rows are those of `ids`.
        ids: Of the members and outsiders, in the order that was audited.
    """
    overlap = audit.overlap
    if overlap is None or not len(overlap.outsiders):
        return {}
    most = np.argsort(-overlap.shares, kind="stable")[:PAIRS]
    pairs = [
        {
            "outsider": ids[overlap.outsiders[row]],
            "member": ids[overlap.members[row]],
            "share": round(float(overlap.shares[row]), 4),
        }
        for row in most
    ]
    return {"pairs": pairs, "pairs_total": len(overlap.outsiders)}


def judge(
    scores: Mapping[str, np.ndarray],
    is_member: np.ndarray,
    audit: stats.SplitAudit,
    owners: Sequence[str] | None,
    seed: int,
    units: Mapping[str, str] | None = None,
    about: Mapping[str, dict[str, str]] | None = None,
) -> Judgement:
    """Judge the scores in the light of the split audit; every number comes with its interval."""
    fair = audit.verdict in ("clean", "overlapping")
    attacks = [
        {
            "name": name,
            "unit": (units or {}).get(name, ""),
            "inflated": audit.verdict == "inflated",
            **(about or {}).get(name, {"summary": "", "paper": ""}),
            **_one_attack(name, values, is_member, owners, seed),
        }
        for name, values in scores.items()
    ]
    best = stats.headline(scores, is_member, stream(seed, "headline"), owners)
    headline = _headline(best, scores, is_member)
    split_audit = {
        "verdict": audit.verdict,
        "sentence": sentence(audit.reason),
        "findings": [f.tagged(method="split audit").to_json() for f in audit.findings],
    }
    verdict = _verdict(best, headline["findings"], audit.verdict, audit.reason)
    if verdict["level"] == "no leak found":
        verdict["sentence"] += _uncorrected(attacks)
    sign = -1.0 if best.turned else 1.0
    together = _ensemble(scores, is_member, owners, seed)
    missing = _missing(attacks, scores, fair)
    return Judgement(split_audit, headline, attacks, verdict, missing, sign, together)


def _ensemble(
    scores: Mapping[str, np.ndarray],
    is_member: np.ndarray,
    owners: Sequence[str] | None,
    seed: int,
) -> list[dict[str, Any]]:
    """What all attacks together find; nothing to say where there is but one."""
    if len(scores) < 2:
        return []
    rng = stream(seed, "ensemble")
    try:
        found = ensemble(scores, is_member, rng, owners)
    except EngramError as problem:  # too few records to learn on one half
        missing = Finding.missing("AUC", str(problem), n=len(is_member))
        return [missing.tagged(method=ENSEMBLE, split="records").to_json()]
    rows = np.flatnonzero(found.judged_on).tolist()
    theirs = None if owners is None else [owners[row] for row in rows]
    judged = is_member[found.judged_on]
    findings = [stats.auc(found.values, judged, rng, owners=theirs).tagged(note=found.note)]
    findings += [stats.tpr_at_fpr(found.values, judged, fpr) for fpr in FPRS]
    where = "other half of the records"
    return [f.tagged(method=ENSEMBLE, split=where).to_json() for f in findings]


def sentence(reason: str) -> str:
    """A reason as a sentence of its own."""
    return reason[:1].upper() + reason[1:].rstrip(".") + "."


def _one_attack(
    name: str, values: np.ndarray, is_member: np.ndarray, owners: Any, seed: int
) -> dict[str, Any]:
    rng = stream(seed, "bootstrap", name)
    findings = [stats.auc(values, is_member, rng, owners=owners)]
    findings += [stats.tpr_at_fpr(values, is_member, fpr) for fpr in FPRS]
    fpr, tpr = stats.thin(*stats.roc_curve(values, is_member)[:2])
    return {
        "findings": [f.tagged(method=name, split="records").to_json() for f in findings],
        "owner_findings": _by_owner(name, values, is_member, owners, rng),
        "roc": {"fpr": fpr.tolist(), "tpr": tpr.tolist()},
        "histogram": histogram(values, is_member),
    }


def _by_owner(
    name: str, values: np.ndarray, is_member: np.ndarray, owners: Any, rng: np.random.Generator
) -> list[dict[str, Any]]:
    if owners is None:
        return []
    try:
        people = stats.by_owner(values, is_member, owners)
    except EngramError as problem:  # owners stand on both sides: said, not silently left out
        missing = Finding.missing("AUC", str(problem), n=len(set(owners)))
        return [missing.tagged(method=name, split="owners").to_json()]
    findings = [stats.auc(people.values, people.is_member, rng)]
    findings += [stats.tpr_at_fpr(people.values, people.is_member, fpr) for fpr in FPRS]
    note = {"note": people.note} if people.note else {}
    return [
        f.tagged(method=name, split="owners", **(note if f.value is not None else {})).to_json()
        for f in findings
    ]


def histogram(values: np.ndarray, is_member: np.ndarray, bins: int = 40) -> dict[str, Any]:
    """Densities of members' and outsiders' scores over common bins; the far tails are clipped."""
    low, high = np.quantile(values, [0.002, 0.998])
    if not high > low:
        low, high = values.min() - 0.5, values.max() + 0.5
    edges = np.linspace(low, high, bins + 1)
    clipped = np.clip(values, low, high)
    sides = (clipped[is_member], clipped[~is_member])
    members, outsiders = (np.histogram(side, edges)[0] / len(side) for side in sides)
    return {
        "edges": edges.tolist(),
        "members": members.tolist(),
        "outsiders": outsiders.tolist(),
    }


def _headline(best: Any, scores: Mapping[str, np.ndarray], is_member: np.ndarray) -> dict[str, Any]:
    findings = [best.finding]
    if best.attack:
        sign = -1.0 if best.turned else 1.0
        values = sign * scores[best.attack][best.judged_on]
        findings += [stats.tpr_at_fpr(values, is_member[best.judged_on], fpr) for fpr in FPRS]
    how = best.finding.note or "one attack, so nothing was chosen"
    judged = "records" if best.judged_on.all() else "other half of the records"
    return {
        "attack": best.attack,
        "how": how,
        "findings": [f.tagged(method=best.attack, split=judged).to_json() for f in findings],
    }


def _verdict(best: Any, findings: list[dict[str, Any]], split: str, why: str) -> dict[str, str]:
    """One sentence for somebody who reads nothing else."""
    area = best.finding
    if area.value is None:
        return {"level": "unknown", "sentence": f"Nothing can be said: {area.note}."}
    numbers = f"AUC {area.value:.3f} [{area.low:.3f}, {area.high:.3f}]"
    caught = _caught(findings)
    if split == "inflated":
        return {
            "level": "inflated",
            "sentence": f"No verdict on leakage: {why.rstrip('.')}. The best attack's {numbers} "
            "may come from that difference alone.",
        }
    separated = area.low > 0.5
    if area.high < 0.5:  # one attack alone is taken as it stands, and may point the wrong way
        return {
            "level": "leak" if split in ("clean", "overlapping") else "unknown",
            "sentence": f"The scores of {best.attack} point the other way ({numbers}): members "
            "have the lower ones, which tells them from outsiders as surely. Were losses given "
            "as scores? Higher must mean more likely a member.",
        }
    if split == "unknown":
        says = f"The attack {best.attack} tells members from outsiders with {numbers}{caught}"
        if not separated:
            says = f"No attack told members from outsiders ({numbers})"
        return {
            "level": "unknown",
            "sentence": f"{says}; but it cannot be claimed that the split is fair, and the "
            f"number may be inflated: {why.rstrip('.')}.",
        }
    if separated:
        return {
            "level": "leak",
            "sentence": "This model gives away which records it was trained on: "
            f"the attack {best.attack} tells members from outsiders with {numbers}{caught}.",
        }
    if split == "overlapping":
        return {
            "level": "unknown",
            "sentence": f"No attack told members from outsiders ({numbers}), but that says "
            f"little: {why.rstrip('.')}.",
        }
    return {
        "level": "no leak found",
        "sentence": f"No attack in this battery told members from outsiders ({numbers} for "
        f"{_whose(best)}). A stronger attack might.",
    }


def _whose(best: Any) -> str:
    """Whose numbers these are; a half that disagrees with the other one has no best attack."""
    if best.finding.value >= 0.5 or best.judged_on.all():
        return "the best of them"
    return f"{best.attack}, which looked best on the other half of the records"


def _uncorrected(attacks: Sequence[Mapping[str, Any]]) -> str:
    """The attack that alone would have told the sides apart, where the choice missed it."""
    found = [(each["findings"][0], each["name"]) for each in attacks]
    apart = [(area, name) for area, name in found if (area["low"] or 0.0) > 0.5]
    if len(attacks) < 2 or not apart:
        return ""
    area, name = max(apart, key=lambda pair: pair[0]["low"])
    return (
        f" On all records {name} alone has AUC {area['value']:.3f} [{area['low']:.3f}, "
        f"{area['high']:.3f}], which is not corrected for being one of {len(attacks)}."
    )


def _caught(findings: list[dict[str, Any]]) -> str:
    """The share of members found at the fewest false alarms where that is more than chance."""
    for found, fpr in zip(findings[1:], FPRS, strict=True):
        if found["low"] is not None and found["low"] > fpr:
            share, alarms = f"{100 * found['value']:.0f} %", f"{100 * fpr:g} %"
            return f", and finds {share} of members at {alarms} false alarms"
    return ""


def _missing(
    attacks: list[dict[str, Any]], scores: Mapping[str, np.ndarray], fair: bool
) -> list[str]:
    notes = {} if fair else {"whether the split is fair": "see the split audit"}
    for attack in attacks:
        for found in attack["findings"] + attack["owner_findings"]:
            if found["value"] is None:
                where = "by owner" if found["split"] == "owners" else "by record"
                notes[f"{found['name']} {where}"] = found["note"]
    for name, values in scores.items():
        if len(values) and np.ptp(values) == 0:
            notes[name] = "it gives every record the same score, which tells nothing"
    return [f"{name}: {note}" for name, note in notes.items()]


def percentiles(values: np.ndarray, outsiders: np.ndarray) -> np.ndarray:
    """For each value, the share of outsiders that score higher; small means exposed."""
    ranked = np.sort(outsiders)
    return 1 - np.searchsorted(ranked, values, side="right") / max(len(ranked), 1)


def material(split: Split) -> Sequence[str] | np.ndarray | None:
    """What the split audit may look at: texts, or features; None where there is neither."""
    if "text" in split.columns:
        return split.texts
    if "features" in split.columns:
        return split.matrix("features")
    return None

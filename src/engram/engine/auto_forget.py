"""`--method auto`: the cheapest unlearner that passes a policy; retraining, if none does.

Cheap methods come first. Each is judged by whether the forgotten records can be told from held-out
ones (in either direction), by how useful the model has stayed, and by whether what was forgotten
is removed or only suppressed; where there is no retrained model to compare with, held-out records
stand in for it. The first that passes is kept. Training again without the records is exact, and
needs no judge: it is the last resort and always passes. Of a target that was prepared for requests
only the edit that it was prepared for is tried.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram import catalog, stats
from engram.core import DivergedError, EngramError, Finding, Split, Target
from engram.engine.forget import calibrated, kept, scorable, two_sided
from engram.engine.forget_evidence import residual_of
from engram.engine.prepared import answering
from engram.engine.records import Known
from engram.engine.run import EngineRun
from engram.engine.train import edit

ORDER = ("gradient-difference", "npo", "kl-ascent", "simnpo", "rmu")
"""From the cheapest to the dearest; those that do not suit the target's family are passed over."""
LAST = "retrain"
"""What any target can be answered by; one in shards by the edit that its recipe names."""
Failing = Callable[[Sequence[Finding]], Sequence[str]]
"""What of a policy some findings do not meet; empty where all is met."""
CHANCE, KEPT, HELD_OUT = "chance", "usefulness on kept records", "usefulness on held-out records"


@dataclass(frozen=True)
class Attempt:
    """One method that was tried.

    Attributes:
        method: Its name.
        findings: What it was judged by; empty where there was nothing to judge.
        failed: Why it did not pass; empty where it did.
    """

    method: str
    findings: tuple[Finding, ...]
    failed: tuple[str, ...]


def choose_unlearner(
    target: Target,
    known: Known,
    records: Split,
    run: EngineRun,
    failing: Failing,
    never: Target | None = None,
) -> tuple[Any, tuple[Attempt, ...]]:
    """The first method whose model passes, and everything that was tried.

    The models are made in the store, where `forget` finds them again. `never` is a model trained
    without the records, if there is one.
    """
    keep = kept(target, known, records)
    attempts: list[Attempt] = []
    prepared = answering(target)
    for name in (prepared,) if prepared else ORDER:
        method = catalog.find("edits", name).load()()
        if target.family not in method.families:
            continue
        method = calibrated(method, target, known, run)
        try:
            edited = edit(method, target, keep, records, run)
        except DivergedError as problem:
            attempts.append(Attempt(name, (), (str(problem),)))
            continue
        found = judged(target, edited, keep, records, known.held_out, run, never)
        attempts.append(Attempt(name, found, tuple(failing(found))))
        if not attempts[-1].failed:
            return method, tuple(attempts)
    last = exact_for(target)
    attempts.append(Attempt(last, (), ()))
    return catalog.find("edits", last).load()(), tuple(attempts)


def exact_for(target: Target) -> str:
    """The cheapest exact unlearner: what the target's own recipe prepared for, or retraining."""
    lineage = target.lineage.recipe()
    if lineage.kind != "recipes" or lineage.method not in catalog.entries("recipes"):
        return LAST
    name = getattr(catalog.find("recipes", lineage.method).load(), "forgets_by", LAST)
    kind = catalog.find("edits", name).load()
    exact = getattr(kind, "promise", "") == "exact" and target.family in kind.families
    return name if exact else LAST


def judged(
    before: Target,
    after: Target,
    keep: Split,
    forgotten: Split,
    outsiders: Split,
    run: EngineRun,
    never: Target | None = None,
) -> tuple[Finding, ...]:
    """What a model that was made to forget is judged by.

    Returns:
        `chance`: the p-value of forgotten and held-out records being scored alike, both ways;
        usefulness on kept and on held-out records: the ratio of their probabilities after and
        before, per prediction (geometric mean); 1 is unchanged.

    Raises:
        EngramError: There are not two of each to be scored.
    """
    sides = [scorable(side, before) for side in (keep, forgotten, outsiders)]
    if min(map(len, sides)) < 1 or len(sides[2]) < 2:
        raise EngramError(
            "too few records can be scored to judge whether they were forgotten",
            hint="train with a larger --holdout, or choose a --method yourself",
        )
    losses = {
        model: [np.asarray(run.losses(each, side), np.float64) for side in sides]
        for model, each in (("before", before), ("after", after))
    }
    # What the model before says of a record is the yardstick of how hard it is by itself, but it
    # knows the forgotten ones: so the raw losses are compared.
    scores = -np.concatenate([losses["after"][1], losses["after"][2]])
    owners = None
    if sides[1].owners is not None and sides[2].owners is not None:
        owners = (*sides[1].owners, *sides[2].owners)
    p = two_sided(scores, len(sides[1]), owners)
    found = [Finding.exact(CHANCE, p, len(scores)).tagged(better="higher")]
    for name, place in ((KEPT, 0), (HELD_OUT, 2)):
        ratio = np.exp(losses["before"][place] - losses["after"][place])
        rng = run.stream("auto", name, after.fingerprint)
        found.append(stats.mean_finding(ratio, name, "", rng).tagged(better="higher"))
    names = ("members", "forgotten", "outsiders")
    left = residual_of(after, before, never, dict(zip(names, sides, strict=True)), run)
    return (*found, *left[:2])

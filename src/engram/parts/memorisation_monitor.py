"""Watch a language model learn its records by heart while it is trained.

On the same few records at every look: how many are written out verbatim, how many runs of tokens
are right (`ngram_memorisation`), how well members are told from validation records by their loss
against that of the untrained model, how exposed planted canaries are, and both perplexities.
Random numbers belong to the seed alone, so the same weights always give the same numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from engram.core import EngramError, Finding, stream
from engram.core.split import Split
from engram.parts.canary_secrets import find_secret
from engram.parts.greedy import continuations
from engram.parts.language_model import LanguageModel
from engram.parts.ngram_memorisation import ngram_scores, verbatim
from engram.parts.passages import Passages, summed_nll
from engram.parts.record_bootstrap import ratio_interval
from engram.parts.stopping import Observation, best, stops
from engram.parts.token_examples import encode
from engram.parts.watch import REFERENCES, Sizes, Watch, afford, spread_out
from engram.stats.exposure import exposure_by_rank, exposure_by_skew_normal
from engram.stats.intervals import mean_finding, proportion
from engram.stats.roc import auc

RESAMPLES = 200
"""Of the bootstrap at each look; more would cost more than the model's answers."""


@dataclass(frozen=True, eq=False)
class Canaries:
    """Planted texts, each followed by the same text with random secrets.

    Attributes:
        passages: `REFERENCES` + 1 for each canary, the planted one first.
        bits: The log2 of how many secrets there are for each canary.
    """

    passages: Passages
    bits: Float[np.ndarray, " canaries"]

    @classmethod
    def of(cls, lm: LanguageModel, texts: Sequence[str], seed: int) -> "Canaries":
        """With random secrets drawn for each; texts without a secret are left out."""
        secrets = [found for text in texts if (found := find_secret(text, None))]
        rows: list[str] = []
        for secret in secrets:
            drawn = secret.drawn(REFERENCES, stream(seed, "monitor", "secrets", secret.text))
            rows += [secret.text, *(secret.holding(digits) for digits in drawn)]
        tokens = encode(lm.tokenizer, rows)
        return cls(
            Passages.of_texts(tokens, lm.context, 1),
            np.array([secret.bits for secret in secrets]),
        )

    def exposure(self, model: Any, rng: np.random.Generator) -> Finding:
        """The mean exposure in bits, read off a distribution fitted to the random secrets."""
        nll = summed_nll(model, self.passages).reshape(-1, REFERENCES + 1)
        found = np.array([_exposed(row, b) for row, b in zip(nll, self.bits, strict=True)])
        return _mean(found, "exposure", "bits", rng)


def _exposed(nll: Float[np.ndarray, " secrets"], bits: float) -> float:
    try:
        return float(exposure_by_skew_normal(nll[:1], nll[1:], bits)[0][0])
    except EngramError:  # all alike: only the rank is left
        return float(exposure_by_rank(nll[:1], nll[1:])[0])


def _share(values: Float[np.ndarray, " n"], name: str, rng: np.random.Generator) -> Finding:
    """A mean of shares; where they are all the same, that of as many hits and misses."""
    found = _mean(values, name, "", rng)
    if np.ptp(values):
        return found
    counted = proportion(round(float(values.sum())), len(values), name)
    low, high = counted.low or 0.0, counted.high or 0.0
    value = float(values[0])
    return replace(found, value=value, low=min(low, value), high=max(high, value))


def _mean(
    values: Float[np.ndarray, " n"], name: str, unit: str, rng: np.random.Generator
) -> Finding:
    """A mean; of one value alone it has no interval, and the value is all there is to say."""
    if len(values) == 1:
        only = float(values[0])
        return Finding(name, only, only, only, 1, unit)
    return mean_finding(values, name, unit, rng, RESAMPLES)


@dataclass(frozen=True, eq=False)
class MemorisationMonitor:
    """Looks at the same records every time; implements `engram.parts.observation.Monitor`.

    Attributes:
        watch: Its settings.
        written: Trained records that are continued.
        members: Trained records whose loss is asked for.
        validation: The same of validation records; may be empty.
        canaries: Planted canaries; None where there are none.
        reference: The untrained model's loss of each member, then of each validation record.
        seed: Of the bootstrap.
    """

    watch: Watch
    written: Passages
    members: Passages
    validation: Passages
    canaries: Canaries | None
    reference: Float[np.ndarray, " records"]
    seed: int

    @classmethod
    def of(
        cls,
        watch: Watch,
        lm: LanguageModel,
        members: Passages,
        validation: Passages,
        split: Split,
        seed: int,
        trained: int,
    ) -> "MemorisationMonitor":
        """Choose what to look at, and ask the untrained model for its losses.

        Args:
            watch: The settings.
            lm: The model before its first step.
            members: All trained records, in the order of `split`.
            validation: All records that may be looked at and are not trained on.
            split: The trained records, for their owners and canaries.
            seed: Of the choice.
            trained: Tokens that training reads in all, over the number of looks.

        Raises:
            EngramError: No record is long enough to be continued, or the stopping rule needs
                validation records and there are none.
        """
        check_validation(watch, len(validation))
        watch = shortened(watch, members)
        members, validation = given(members, watch.prefix), given(validation, watch.prefix)
        planted = np.array(split.canaries or (False,) * len(split))
        order = spread_out(split.owners, ~planted, stream(seed, "monitor", "members"))
        long_enough = order[continuable(members.take(order), watch)]
        if not len(long_enough):
            raise EngramError(
                f"none of the {len(split)} records of {split.name!r} has {max(watch.sizes)} "
                "tokens after its beginning, so none can be continued",
                hint="watch longer records, or give shorter --observe-prefix and --observe-sizes",
            )
        texts = _canary_texts(split, planted, stream(seed, "monitor", "canaries"))
        sizes = _sizes(watch, lm, members.take(order), texts, trained, bool(len(validation)))
        beside = stream(seed, "monitor", "validation").permutation(len(validation))
        read, aside = members.take(order[: sizes.read]), validation.take(beside[: sizes.read])
        losses = [_losses(lm.model, side) for side in (read, aside)]
        canaries = Canaries.of(lm, texts[: sizes.canaries], seed) if sizes.canaries else None
        return cls(
            watch,
            members.take(long_enough[: sizes.written]),
            read,
            aside,
            canaries if canaries and len(canaries.bits) else None,
            np.concatenate(losses),
            seed,
        )

    def look(self, lm: LanguageModel, step: int, epoch: float) -> Observation:
        """Each number with `_low` and `_high`, the ends of its interval, and `_n`."""
        return flat(self.findings(lm.model, step))

    def findings(self, model: Any, step: int) -> list[Finding]:
        """What is seen of a model after `step` steps."""
        rng = stream(self.seed, "monitor", "bootstrap", step)
        found = [*self._copied(model, rng), *self._losses(model, step, rng)]
        return found + ([self.canaries.exposure(model, rng)] if self.canaries else [])

    def _copied(self, model: Any, rng: np.random.Generator) -> list[Finding]:
        truths = self.written.rests(self.watch.suffix)
        made = continuations(model, self.written.prompts(), [len(truth) for truth in truths])
        exact = sum(verbatim(m, t) for m, t in zip(made, truths, strict=True))
        sizes = self.watch.sizes
        return [
            proportion(exact, len(truths), "verbatim"),
            _share(ngram_scores(made, truths, sizes, "aligned"), "ngram", rng),
            _share(ngram_scores(made, truths, sizes, "set"), "ngram_set", rng),
        ]

    def _losses(self, model: Any, step: int, rng: np.random.Generator) -> Iterator[Finding]:
        sides = {"train": self.members, "validation": self.validation}
        losses = np.split(self.reference, [len(self.members)])
        if step:  # before the first step it is the untrained model, which was asked already
            losses = [_losses(model, side) for side in sides.values()]
        for loss, (name, side) in zip(losses, sides.items(), strict=True):
            counts = side.counts
            nll = loss * counts
            if counts.sum():
                low, high = np.exp(ratio_interval(nll, counts.astype(float), rng, RESAMPLES))
                value = float(np.exp(nll.sum() / counts.sum()))
                yield Finding(f"{name}_perplexity", value, low, high, len(side))
        if len(self.members) > 1 and len(self.validation) > 1:
            is_member = np.arange(len(self.reference)) < len(self.members)
            drop = self.reference - np.concatenate(losses)
            yield replace(auc(drop, is_member, rng, RESAMPLES), name="auc")

    def stop(self, trace: Sequence[Observation]) -> bool:
        """Whether the stopping rule stops."""
        return stops(self.watch.stop, trace, self.watch.tau, self.watch.patience)

    def best(self, trace: Sequence[Observation]) -> int | None:
        """The place of the observation whose weights the stopping rule keeps."""
        return best(self.watch.stop, trace, self.watch.tau)


def flat(findings: Sequence[Finding]) -> dict[str, float | int]:
    """Findings as one entry of a trace; what could not be measured is left out."""
    entry: dict[str, float | int] = {}
    for found in findings:
        if found.value is None or found.low is None or found.high is None:
            continue
        ends = {"": found.value, "_low": found.low, "_high": found.high}
        entry |= {f"{found.name}{end}": float(value) for end, value in ends.items()}
        entry[f"{found.name}_n"] = found.n
    return entry


def check_validation(watch: Watch, records: int) -> None:
    """Refuse a rule that goes by the validation perplexity where there is nothing to validate on.

    Raises:
        EngramError: The rule.
    """
    if watch.stop in ("perplexity", "ngram") and not records:
        raise EngramError(
            f"stop is {watch.stop}, which goes by the validation perplexity, but no records were "
            "set aside for validation",
            hint="--validation 0.2 sets a fifth of the held-out records aside; --stop threshold "
            "needs none",
        )


def shortened(watch: Watch, members: Passages) -> Watch:
    """The prefix cut to half of a usual record, so that short texts can be continued as well."""
    usual = int(np.median(members.lengths)) if len(members) else 0
    return replace(watch, prefix=max(1, min(watch.prefix, usual // 2)))


def given(passages: Passages, prefix: int) -> Passages:
    """The same with texts cut after `prefix` tokens; of prompts all is given, as it was."""
    whole = passages.judged == 1
    return replace(passages, cut=np.where(whole, prefix, passages.cut))


def continuable(passages: Passages, watch: Watch) -> Int[np.ndarray, " _"]:
    """Rows with enough tokens after what is given.

    Texts need all of the suffix, if half of them have as much; responses are as long as they are.
    """
    rest = passages.lengths - passages.cut
    usual = int(np.median(rest)) if len(passages) else 0
    least = min(watch.suffix, usual) if (passages.judged == 1).all() else 0
    return np.flatnonzero(rest >= max(least, *watch.sizes))


def _canary_texts(split: Split, planted: np.ndarray, rng: np.random.Generator) -> list[str]:
    """The canaries, each once, in random order."""
    texts = list(dict.fromkeys(split.texts[row] for row in np.flatnonzero(planted)))
    return [texts[place] for place in rng.permutation(len(texts))]


def _sizes(
    watch: Watch,
    lm: LanguageModel,
    members: Passages,
    texts: Sequence[str],
    trained: int,
    validated: bool,
) -> Sizes:
    steps = max(map(len, members.rests(watch.suffix)))
    lengths = [len(ids) for ids in encode(lm.tokenizer, list(texts))]
    canary = float(np.mean(lengths)) if lengths else 0.0
    return afford(watch, trained, float(members.lengths.mean()), steps, canary, 1 + validated)


def _losses(model: Any, passages: Passages) -> Float[np.ndarray, " records"]:
    return summed_nll(model, passages) / np.maximum(passages.counts, 1)

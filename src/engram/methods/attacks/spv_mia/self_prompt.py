"""The self-prompt reference: what the target itself writes stands in for data like its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.core import EngramError, Run, Sampler, Split, Target
from engram.parts.outside_records import outside_records
from engram.parts.paraphrasers.plan import Cut

NOTHING = "none"


@dataclass(frozen=True)
class Prompts:
    """What the target is asked to go on from, and for how many tokens."""

    texts: tuple[str, ...]
    tokens: tuple[int, ...]

    @classmethod
    def nothing(cls, count: int, length: int) -> "Prompts":
        """Empty prompts: the target begins its texts by itself."""
        return cls(("",) * count, (length,) * count)

    @classmethod
    def beginnings(cls, tokenizer: Any, texts: Sequence[str], tokens: int) -> "Prompts":
        """The first `tokens` tokens of each text, to be continued to its length.

        Texts that are no longer than that are left out.
        """
        starts, lengths = [], []
        for text in texts:
            cut = Cut.of(tokenizer, text)
            if len(cut.ids) > tokens:
                starts.append(text[: cut.spans[tokens - 1][1]])
                lengths.append(len(cut.ids) - tokens)
        return cls(tuple(starts), tuple(lengths))

    def split(self) -> Split:
        """The prompts as records, so that what comes of them can be stored."""
        return Split.of("prompts", text=list(self.texts), tokens=list(self.tokens))


def self_prompted(sampler: Sampler, prompts: Prompts, rng: np.random.Generator) -> tuple[str, ...]:
    """One text a prompt: the prompt, and what somebody wrote on from it.

    Args:
        sampler: All that is needed of the target: it is asked to write, and nothing else.
        prompts: Beginnings of texts, or nothing at all.
        rng: The only source of chance.
    """
    written = sampler.write(list(prompts.texts), list(prompts.tokens), rng)
    return tuple(a + b for a, b in zip(prompts.texts, written, strict=True))


def prompts_from(
    where: str, count: int, tokens: int, tokenizer: Any, split: Split, target: Target, run: Run
) -> Prompts:
    """Beginnings of at most `count` of the records at `where`, drawn at random.

    Raises:
        EngramError: A record of the prompt source is audited too, or all are too short.
    """
    found = outside_records(where, split, target, run, what="prompt source")
    order = run.stream("spv-mia prompts").permutation(len(found))
    prompts = Prompts.beginnings(tokenizer, found.take(order[:count]).texts, tokens)
    if not prompts.texts:
        raise EngramError(
            f"no record of the prompt source {where!r} is longer than {tokens} tokens, which is "
            "what a prompt takes",
            hint="lower prompt_tokens, or set prompts=none, which needs no outside text",
        )
    return prompts


def written_by(target: Target, prompts: Prompts, run: Run) -> Split:
    """The target's own texts: sampled once, then found again.

    Raises:
        EngramError: It wrote nothing at all.
    """
    asked = prompts.split()

    def write() -> np.ndarray:
        rng = run.stream("spv-mia writing")
        # An array of texts: it is stored as it is, and row by row.
        return np.array(self_prompted(run.sampler(target), prompts, rng), dtype=np.str_)

    texts = run.computed("self-prompted", target, asked, {"seed": run.seed}, write)
    some = [text for text in texts.tolist() if text.strip()]
    if not some:
        raise EngramError(
            f"target {target.name!r} wrote nothing after {len(texts)} prompts, so there is no "
            "self-prompt reference",
            hint="set prompts to a file of other texts of the kind, or reference=base",
        )
    return Split.of("self-prompted texts", text=some)

"""Score a text by how much a foreign text before it makes it less likely.

Put texts that the model never saw before the record and ask again how likely the record is. A
text that the model knows by heart loses by it: the model was sure already, and is led astray. A
text that it does not know gains a little, or loses less, for the texts before it show the kind
of thing that is to come.

    score(x) = LL(x | P) / LL(x),  LL(x) = mean over t of log p(x_t | x_<t)

Both are negative; for a member the prefix P makes the upper one larger in size, so the ratio of
a member is larger.

Differs from the paper: 1. Without a file of non-members, the prefix is written by the target's
base, which never saw the records; where there is no base the target writes it, and may then
recite some of them, so a file is better. 2. A prefix that does not fit before a record into the
model's context is cut at its beginning; `room` tokens of it stay at least, and of a longer
record only the tokens that are read together with them count. 3. Log-likelihoods closer to 0
than 1e-6 count as 1e-6.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from engram.core import Access, EngramError, Paper, Run, Scores, Split, Target, TokenSignals
from engram.parts.outside_records import outside_records
from engram.parts.token_examples import encoded
from engram.parts.token_scores import check_scored
from engram.signals.batches import Chunk
from engram.signals.body import Reader
from engram.signals.store import Done
from engram.signals.tokens import asleep

FLOOR = 1e-6
IMPOSSIBLE = -1e4
"""Stands for the log-probability of a token that the model rules out."""
BATCH_TOKENS = 4096
BETWEEN = "\n\n"


@dataclass(frozen=True)
class Recall:
    """Relative conditional log-likelihood given a prefix of non-members."""

    paper: ClassVar[Paper] = Paper(
        title="ReCaLL: Membership Inference via Relative Conditional Log-Likelihoods",
        authors="Xie et al.",
        year=2024,
        url="https://arxiv.org/abs/2406.15968",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm"})

    prefix: str = ""
    """Records that the target never saw: a file or a data set, none of it audited. Empty: the
    target's base writes them."""
    shots: int = 8
    """Records in the prefix, drawn at random; the paper uses up to 12."""
    shot_tokens: int = 32
    """Most tokens of a record that the base writes."""
    room: int = 32
    """Fewest tokens of the prefix before a long record; at most half of the model's context."""

    def __post_init__(self) -> None:
        for name in ("shots", "shot_tokens", "room"):
            if getattr(self, name) < 1:
                raise EngramError(
                    f"{name} is {getattr(self, name)}, but must be at least 1",
                    hint="8 shots of 32 tokens are a good start",
                )

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return the ratio of conditional to unconditional log-likelihood of each text."""
        own = run.tokens(target, split)
        check_scored(own)
        lm = target.model
        if self.room > lm.context // 2:
            raise EngramError(
                f"room is {self.room}, but target {target.name!r} reads only {lm.context} tokens "
                "at once",
                hint=f"give at most {lm.context // 2}",
            )
        text = "".join(text + BETWEEN for text in self.texts(target, split, run))
        prefix = lm.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        settings = {"prefix": sha256(repr(prefix).encode()).hexdigest(), "room": self.room}
        values = run.computed(
            "recall", target, split, settings, lambda: self.ratios(lm, split, own, prefix, run)
        )
        return Scores(split.ids, values, unit="ratio")

    def ratios(
        self, lm: Any, split: Split, own: TokenSignals, prefix: list[int], run: Run
    ) -> Float[np.ndarray, " n"]:
        """LL(x | P) / LL(x) of each record, over the same tokens."""
        values, reader = np.zeros(len(split)), None
        front = leading(lm.tokenizer)
        row = 0
        for block in encoded(lm.tokenizer, split, 256):
            run.progress(row, len(split), "records after a prefix")
            placed = [placed_after(prefix, ids, front, lm.context, self.room) for ids in block]
            chunk = gathered(placed)
            reader = reader or Reader.of(lm.model, chunk.trial())
            logprob = read(reader, lm, chunk)
            ends = np.cumsum(chunk.scored)
            for end, scored in zip(ends, chunk.scored, strict=True):
                alone = own.logprob[own.record(row)][max(front, 1) - 1 :][:scored]
                values[row] = relative(logprob[end - scored : end], np.asarray(alone))
                row += 1
        return values

    def texts(self, target: Target, split: Split, run: Run) -> list[str]:
        """The texts that make up the prefix.

        Raises:
            EngramError: There are too few, some are audited too, or nothing was written.
        """
        rng = run.stream("recall", "prefix")
        if self.prefix:
            source = outside_records(
                self.prefix, split, target, run, least=self.shots, what="prefix"
            )
            filled = [text for text in source.texts if text.strip()]
            if len(filled) < self.shots:
                raise EngramError(
                    f"the prefix {self.prefix!r} has {len(filled)} texts that are not empty, but "
                    f"{self.shots} are needed",
                    hint="give more texts, or fewer --shots",
                )
            return [filled[row] for row in rng.permutation(len(filled))[: self.shots]]
        base = target.lineage.base
        writer = run.sampler(run.target(base) if base else target)
        written = writer.write([""] * self.shots, self.shot_tokens, rng)
        if not any(text.strip() for text in written):
            raise EngramError(
                f"{base or target.name!r} writes only empty texts, so there is no prefix",
                hint="name a file of records that the target never saw with --prefix",
            )
        return [text.strip() for text in written if text.strip()]


def leading(tokenizer: Any) -> int:
    """How many special tokens the tokenizer puts before every text."""
    got = tokenizer("a", return_special_tokens_mask=True, verbose=False)["special_tokens_mask"]
    return next((place for place, special in enumerate(got) if not special), len(got))


def placed_after(
    prefix: list[int], ids: list[int], front: int, context: int, room: int
) -> tuple[list[int], int]:
    """The tokens of prefix and record together, and where the first one stands that is scored.

    Args:
        prefix: Tokens of the prefix; its end is kept, as much of it as leaves the record whole.
        ids: Tokens of the record, `front` special ones first.
        front: Special tokens that stay in front of the prefix.
        context: The most tokens of the result.
        room: Fewest tokens of the prefix that are kept, if it has so many.
    """
    kept = min(len(prefix), max(context - len(ids), room))
    whole = ids[:front] + prefix[len(prefix) - kept :] + ids[front:]
    # A record's very first token is not scored where nothing stands before it alone.
    return whole[:context], max(front, 1) + kept


def gathered(placed: list[tuple[list[int], int]]) -> Chunk:
    """Sequences of tokens as the signals read them."""
    lengths = np.array([len(tokens) for tokens, _ in placed], np.int64)
    firsts = np.array([first for _, first in placed], np.int64)
    flat = np.concatenate([np.array(tokens, np.int32) for tokens, _ in placed])
    now = Done(0, 0, 0)
    starts, rows = np.cumsum(lengths) - lengths, np.arange(len(placed))
    return Chunk(flat, starts, lengths, firsts, rows, np.cumsum(lengths), now, now)


def read(reader: Any, lm: Any, chunk: Chunk) -> Float[np.ndarray, " scored"]:
    """Log-probabilities of the scored tokens, one sequence after another."""
    found = np.empty(int(chunk.scored.sum()))
    with asleep(lm.model):
        # As for the signals: with short number types nothing may be filled up.
        exact = lm.model.dtype.itemsize < 4
        for batch in chunk.batches(min(BATCH_TOKENS, reader.most_tokens), exact=exact):
            found[batch.places] = reader.read(batch).logprob
    return np.maximum(found, IMPOSSIBLE)


def relative(
    conditional: Float[np.ndarray, " tokens"], unconditional: Float[np.ndarray, " tokens"]
) -> float:
    """The ratio of two mean log-probabilities of the same tokens."""
    upper, lower = (
        min(float(np.mean(each, dtype=np.float64)), -FLOOR) for each in (conditional, unconditional)
    )
    return upper / lower  # the paper's ReCaLL(x, P)

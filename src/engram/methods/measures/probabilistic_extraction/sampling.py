"""Log-probabilities of the true tokens when a model is sampled with a temperature or truncated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram.core import EngramError, Run, Split, TokenSignals
from engram.signals.batches import Batch, Chunk, chunks
from engram.signals.body import Reader
from engram.signals.reduce import chunk_rows
from engram.signals.store import Done
from engram.signals.tokens import asleep, tokenised
from engram.signals.windows import Sight

BATCH_TOKENS = 4096
CHUNK_TOKENS = 16 * BATCH_TOKENS
BLOCK = 4096
"""Records whose stored answers are added up together."""


@dataclass(frozen=True)
class Scheme:
    """Sampling from softmax(logits / temperature), of the `top_k` likeliest tokens; 0: of all."""

    temperature: float
    top_k: int

    @property
    def plain(self) -> bool:
        """Whether tokens are sampled from the model's own distribution."""
        return self.temperature == 1 and self.top_k == 0

    def logprob(
        self, logits: Float[Tensor, "n vocabulary"], true_token: Int[Tensor, " n"]
    ) -> Float[Tensor, " n"]:
        """Log-probability of each true token; minus infinity where it is never sampled.

        Of equally likely tokens the first ones are kept, so that keeping one is greedy decoding.
        """
        z, index = logits.float(), true_token.to(torch.int64)[:, None]
        # The largest is taken off first: no temperature then makes a number overflow.
        z = z - z.amax(1, keepdim=True)
        true, scaled = z.gather(1, index), z / self.temperature
        found = scaled.gather(1, index)[:, 0]
        if not 0 < self.top_k < z.shape[1]:
            return found - scaled.logsumexp(1)
        before = torch.arange(z.shape[1], device=z.device) < index
        rank = (z > true).sum(1) + ((z == true) & before).sum(1)
        kept = found - scaled.topk(self.top_k, dim=1).values.logsumexp(1)
        return torch.where(rank < self.top_k, kept, -torch.inf)


def stored_sums(
    signals: TokenSignals, prefixes: Sequence[int], suffix: int
) -> Float[np.ndarray, "records prefixes"]:
    """Log-probability of the suffix after each prefix, from stored answers; NaN: too short.

    A record's first token is not scored, so its token number t stands at entry t - 1.
    """
    answer = np.full((len(signals), len(prefixes)), np.nan)
    for column, prefix in enumerate(prefixes):
        rows = np.flatnonzero(signals.lengths + 1 >= prefix + suffix)
        for first in range(0, len(rows), BLOCK):
            part = rows[first : first + BLOCK]
            entries = np.asarray(signals.offsets)[part, None] + prefix - 1 + np.arange(suffix)
            answer[part, column] = np.asarray(signals.logprob[entries], np.float64).sum(axis=1)
    return answer


def sampled_sums(
    lm: Any, split: Split, prefixes: Sequence[int], suffix: int, scheme: Scheme, run: Run
) -> Float[np.ndarray, "records prefixes"]:
    """The same under another sampling scheme: one pass, logits reduced a few rows at a time."""
    answer = np.full((len(split), len(prefixes)), np.nan)
    shortest, longest = min(prefixes), max(prefixes) + suffix
    records = (
        tokens[: longest if len(tokens) >= shortest + suffix else 0]
        for tokens in tokenised(lm.tokenizer, split)
    )
    reader = None
    with asleep(lm.model):
        for chunk in chunks(records, Sight.of(lm.context, longest), CHUNK_TOKENS, Done()):
            if len(chunk.starts):
                reader = reader or Reader.of(lm.model, chunk.trial())
                # Nothing before the shortest prefix's end is asked for.
                asked = replace(chunk, firsts=np.full_like(chunk.firsts, shortest))
                for record, values in _scores(reader, asked, scheme, split):
                    for column, prefix in enumerate(prefixes):
                        if len(values) >= prefix - shortest + suffix:
                            part = values[prefix - shortest :][:suffix]
                            answer[record, column] = part.sum()
            run.progress(chunk.after.records, len(split), "sampling")
    return answer


def _scores(
    reader: Reader, chunk: Chunk, scheme: Scheme, split: Split
) -> Iterator[tuple[int, Float[np.ndarray, " tokens"]]]:
    """Log-probabilities of the scored tokens of each record in a chunk."""
    flat = np.empty(int(chunk.scored.sum()))
    exact = reader.model.dtype.itemsize < 4  # as for the token signals
    for batch in chunk.batches(min(BATCH_TOKENS, reader.most_tokens), exact=exact):
        flat[batch.places] = _read(reader, batch, scheme)
    ends = np.cumsum(chunk.scored)
    for record, first, last in zip(chunk.records, ends - chunk.scored, ends, strict=True):
        if np.isnan(flat[first:last]).any():
            raise EngramError(
                f"the model's logits for record {split.ids[record]!r} are NaN or infinite",
                hint="its weights may be damaged, or its number type too short",
            )
        yield int(record), flat[first:last]


def _read(reader: Reader, batch: Batch, scheme: Scheme) -> Float[np.ndarray, " n"]:
    model, head = reader.model, reader.head
    inputs = batch.inputs(model.device)
    found = []
    with torch.inference_mode():
        if head is None:
            rows = model(**inputs, use_cache=False).logits
        else:
            rows = model.base_model(**inputs, use_cache=False).last_hidden_state
        rows = rows.flatten(0, 1)[torch.from_numpy(batch.asked).to(rows.device)]
        answers = torch.from_numpy(batch.answers).to(rows.device)
        vocabulary = rows.shape[1] if head is None else head.vocabulary
        size = chunk_rows(vocabulary, rows.device.type)
        for part, true in zip(rows.split(size), answers.split(size), strict=True):
            logits = part if head is None else head.logits(part)
            found.append(scheme.logprob(logits, true).cpu().numpy())
    return np.concatenate(found)

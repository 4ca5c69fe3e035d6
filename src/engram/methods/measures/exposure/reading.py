"""How likely a model finds many texts that begin alike: what they share is read once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram.parts.token_examples import encode
from engram.signals.batches import Batch
from engram.signals.body import Reader
from engram.signals.reduce import reduce_hidden, reduce_logits
from engram.signals.tokens import asleep

TOKENS = 8192
"""Tokens that are read, or remembered, at the same time."""
CLOSE = 1e-3
"""How far, in nats, reading with a memory may be from reading whole."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Tokens of texts, one text a row, filled up on the right."""

    table: Int[np.ndarray, "texts width"]
    lengths: Int[np.ndarray, " texts"]

    @classmethod
    def of(cls, tokenizer: Any, texts: Sequence[str]) -> "Rows":
        """The tokens of these texts."""
        tokens = encode(tokenizer, list(texts))
        lengths = np.array([len(ids) for ids in tokens], np.int64)
        table = np.zeros((len(tokens), int(lengths.max(initial=0))), np.int64)
        for row, ids in enumerate(tokens):
            table[row, : len(ids)] = ids
        return cls(table, lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def part(self, first: int, last: int) -> "Rows":
        """Some of the texts."""
        lengths = self.lengths[first:last]
        return Rows(self.table[first:last, : int(lengths.max(initial=0))], lengths)

    def after(self, tokens: int) -> "Rows":
        """What is left of each text after its first few tokens."""
        return Rows(self.table[:, tokens:], self.lengths - tokens)

    @property
    def shared(self) -> int:
        """How many tokens all texts begin with, at most all but one of the shortest."""
        same = (self.table == self.table[0]).all(axis=0)
        alike = int(np.argmin(same)) if not same.all() else len(same)
        return max(0, min(alike, int(self.lengths.min()) - 1))

    def batch(self) -> Batch:
        """All tokens but the first of each are asked for; `places` are the rows."""
        scored = np.arange(self.table.shape[1]) < self.lengths[:, None] - 1
        asked = np.flatnonzero(scored)
        answers = self.table.reshape(-1)[asked + 1]
        return Batch(self.table, self.lengths, asked, answers, np.nonzero(scored)[0])


@dataclass(frozen=True, eq=False)
class TextReader:
    """Reads batches of texts with one model."""

    lm: Any
    reader: Reader
    remembers: bool
    """Whether the model goes on from its stored keys and values as if it had read it all."""

    @classmethod
    def of(cls, lm: Any, some: Rows) -> "TextReader":
        """Try out on a few texts how this model can be read; nothing is taken on trust."""
        with asleep(lm.model):
            plain = cls(lm, Reader.of(lm.model, some.part(0, 2).batch()), False)
            if some.shared < 2:
                return plain
            expected = plain._whole(some)
            try:
                found = plain._shared(some, some.shared)
            except (AttributeError, TypeError, ValueError, RuntimeError):
                return plain
        return cls(lm, plain.reader, np.allclose(found, expected, rtol=0, atol=CLOSE))

    def nll(self, rows: Rows) -> Float[np.ndarray, " texts"]:
        """Log-perplexity of each text: the sum over its tokens, in nats."""
        found = np.zeros(len(rows))
        size = max(1, min(TOKENS, self.reader.most_tokens) // max(1, rows.table.shape[1]))
        with asleep(self.lm.model):
            for first in range(0, len(rows), size):
                part = rows.part(first, first + size)
                shared = part.shared if self.remembers and len(part) > 1 else 0
                total = self._shared(part, shared) if shared > 1 else self._whole(part)
                found[first : first + size] = -total
        return found

    def _whole(self, rows: Rows) -> Float[np.ndarray, " texts"]:
        """Summed log-probabilities of texts that are read from their first token on."""
        batch = rows.batch()
        logprob = self.reader.read(batch).logprob.astype(np.float64)
        return np.bincount(batch.places, weights=logprob, minlength=len(rows))

    def _shared(self, rows: Rows, shared: int) -> Float[np.ndarray, " texts"]:
        """The same, but the tokens that all texts begin with are read once and remembered.

        The last of them stays with each text: it asks for the first token that differs.
        """
        begin = Rows(rows.table[:1, :shared], np.array([shared]))
        batch = rows.after(shared - 1).batch()
        with torch.inference_mode():
            ids = torch.from_numpy(begin.table[:, :-1]).to(self.lm.device)
            memory = self.lm.model(input_ids=ids, use_cache=True).past_key_values
            memory.batch_repeat_interleave(len(rows))
            logprob = self._asked(batch, memory)
        rest = np.bincount(batch.places, weights=logprob, minlength=len(rows))
        return self._whole(begin) + rest

    def _asked(self, batch: Batch, memory: Any) -> Float[np.ndarray, " n"]:
        """Log-probabilities of the answers of a batch that goes on from a memory.

        What is filled up stands after all that is asked, where a causal model does not look.
        """
        model, head, width = self.lm.model, self.reader.head, batch.tokens.shape[1]
        ids = torch.from_numpy(batch.tokens[:, :-1]).to(self.lm.device)
        given = {"input_ids": ids, "past_key_values": memory, "use_cache": True}
        places = batch.asked - batch.asked // width  # a row has one token less than the batch
        asked = torch.from_numpy(places).to(self.lm.device)
        answers = torch.from_numpy(batch.answers).to(self.lm.device)
        if head is None:
            logits: Tensor = model(**given).logits
            return reduce_logits(logits.flatten(0, 1)[asked], answers).logprob.astype(np.float64)
        hidden: Tensor = model.base_model(**given).last_hidden_state
        return reduce_hidden(hidden.flatten(0, 1)[asked], head, answers).logprob.astype(np.float64)

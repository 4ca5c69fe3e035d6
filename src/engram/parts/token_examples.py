"""Texts made ready for a language model to be trained on, or asked about, with gradients.

Every record is a sequence of its own: what the tokenizer makes of it, and the end token. A
sequence longer than the context is cut into pieces; each begins with the last token of the one
before, so that every token but a record's first is predicted exactly once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from engram.core import Split
from engram.parts.predictions import Predictions
from engram.parts.training import shuffled_batches

IGNORED = -100
"""The label of a position that is not predicted."""
LOGITS = 2**27
"""Most numbers in one batch of logits; larger batches go through the model in parts."""


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of texts, with the special tokens that the tokenizer itself adds."""
    if not texts:
        return []
    found = tokenizer(
        list(texts), truncation=False, padding=False, return_attention_mask=False, verbose=False
    )
    return found["input_ids"]


def encoded(tokenizer: Any, split: Split, block: int = 1024) -> Iterator[list[list[int]]]:
    """Tokens of all records, `block` records at a time, so that memory stays flat."""
    column = split.column("text")
    for first in range(0, len(split), block):
        texts = column.slice(first, block).to_pylist()
        yield encode(tokenizer, ["" if t is None else t for t in texts])


def cut(tokens: Sequence[int], context: int) -> list[Sequence[int]]:
    """Pieces of at most `context` tokens that overlap by one; none of fewer than two tokens."""
    stride = context - 1
    return [tokens[i : i + context] for i in range(0, max(len(tokens) - 1, 0), stride)]


def side_by_side(
    rows: Sequence[Shaped[np.ndarray, " _"]], like: Shaped[Tensor, "rows width"]
) -> Shaped[Tensor, "rows width"]:
    """Rows of different lengths as one tensor like another, filled up with 0 on the right."""
    table = torch.zeros(tuple(like.shape), dtype=like.dtype)
    for place, row in enumerate(rows):
        table[place, : len(row)] = torch.from_numpy(row)
    return table.to(like.device)


@dataclass(frozen=True, eq=False)
class TokenExamples:
    """Pieces of tokenised records, beside the model that is to learn or forget them.

    Attributes:
        model: A Hugging Face causal language model.
        tokens: All pieces, one after another; (total,).
        offsets: Where each piece starts; (pieces + 1,).
        record: Which record each piece is from; (pieces,).
        parts: Chunks that a batch is read in, at least.
        asked: Which of the tokens are predicted; None: all but the first of each piece, which
            never is; (total,).
        share: Which of how many shares of every batch is read here; (0, 1): all of it.
        smoothing: Share of the probability that the loss wants spread over all tokens alike.
    """

    ragged: ClassVar[tuple[str, ...]] = ("tokens",)
    """The arrays that hold all pieces, one after another."""

    model: nn.Module
    tokens: Int[np.ndarray, " total"]
    offsets: Int[np.ndarray, " pieces_plus_one"]
    record: Int[np.ndarray, " pieces"]
    parts: int = 1
    asked: Bool[np.ndarray, " total"] | None = None
    share: tuple[int, int] = (0, 1)
    smoothing: float = 0.0

    @classmethod
    def of(
        cls, model: nn.Module, tokenizer: Any, split: Split, context: int, *, end: bool
    ) -> "TokenExamples":
        """Tokenise and cut every record; with `end`, the end token closes each."""
        closing = [tokenizer.eos_token_id] if end and tokenizer.eos_token_id is not None else []
        pieces, record, row = [], [], 0
        for block in encoded(tokenizer, split):
            for ids in block:
                sequence = ids if ids[-1:] == closing else ids + closing
                made = cut(sequence, context)
                pieces += [np.asarray(piece, np.int32) for piece in made]
                record += [row] * len(made)
                row += 1
        tokens = np.concatenate(pieces) if pieces else np.empty(0, np.int32)
        offsets = np.cumsum([0, *map(len, pieces)])
        return cls(model, tokens, offsets, np.array(record, np.int64))

    def take(self, pieces: Int[np.ndarray, " chosen"]) -> "TokenExamples":
        """These pieces alone, in this order."""
        spans = [slice(self.offsets[i], self.offsets[i + 1]) for i in pieces]
        arrays = {
            name: np.concatenate(
                [getattr(self, name)[:0], *(getattr(self, name)[s] for s in spans)]
            )
            for name in self.ragged
            if getattr(self, name) is not None
        }
        offsets = np.cumsum([0, *self.lengths[pieces]])
        return replace(self, offsets=offsets, record=self.record[pieces], **arrays)

    @property
    def counts(self) -> Int[np.ndarray, " pieces"]:
        """Predicted tokens of each piece."""
        return self._counts

    @cached_property
    def _counts(self) -> Int[np.ndarray, " pieces"]:
        if self.asked is None or not len(self.record):
            return self.lengths - 1
        inside = self.asked.copy()
        inside[self.offsets[:-1]] = False
        return np.add.reduceat(inside.astype(np.int64), self.offsets[:-1])

    @cached_property
    def lengths(self) -> Int[np.ndarray, " pieces"]:
        """Tokens of each piece, predicted or not."""
        return np.diff(self.offsets)

    @property
    def answers(self) -> int:
        """Tokens of the vocabulary, as the model counts them."""
        return int(self.model.get_input_embeddings().num_embeddings)  # type: ignore[operator]

    def nll(self, rows: Int[np.ndarray, " rows"]) -> Float[Tensor, " rows"]:
        """Negative log-likelihood of each piece, summed over its predicted tokens; in nats.

        With `smoothing` s it is (1 - s) times that, and s times the mean over all tokens of the
        vocabulary (Szegedy et al., 2016).
        """
        return self.token_losses(rows)[0].sum(1)

    def token_losses(
        self, rows: Int[np.ndarray, " rows"]
    ) -> tuple[Float[Tensor, "rows time"], Float[Tensor, "rows time"], Bool[Tensor, "rows time"]]:
        """What is learnt at each position, in nats; differentiable.

        Returns:
            The loss of the token after each position, smoothed as in `nll`; its negative
            log-likelihood, not smoothed; and whether it is predicted at all. Where it is not,
            both are 0.
        """
        device = next(self.model.parameters()).device
        tokens, labels = (t.to(device) for t in self.padded(rows))
        logits = self.logits(self.model, rows, tokens)
        answers, true = logits.flatten(0, 1).float(), labels.flatten()
        nll = nn.functional.cross_entropy(answers, true, ignore_index=IGNORED, reduction="none")
        loss = nll
        if self.smoothing:
            loss = nn.functional.cross_entropy(
                answers,
                true,
                ignore_index=IGNORED,
                reduction="none",
                label_smoothing=self.smoothing,
            )
        return loss.view(labels.shape), nll.view(labels.shape), labels != IGNORED

    def predictions(
        self, rows: Int[np.ndarray, " rows"], model: nn.Module | None = None
    ) -> Predictions:
        """What the model (or another one) says at each predicted token, and nowhere else."""
        model = self.model if model is None else model
        device = next(model.parameters()).device
        tokens, labels = (t.to(device) for t in self.padded(rows))
        logits = self.logits(model, rows, tokens)
        place, time = torch.nonzero(labels != IGNORED, as_tuple=True)
        return Predictions(logits[place, time].float(), labels[place, time], place, time, len(rows))

    def logits(
        self, model: nn.Module, rows: Int[np.ndarray, " rows"], tokens: Int[Tensor, "rows time"]
    ) -> Float[Tensor, "rows time answers"]:
        """What a model says after each token of a batch that `padded` made."""
        mask = (tokens != IGNORED).long()
        return model(input_ids=tokens.clamp(min=0), attention_mask=mask, use_cache=False).logits

    def padded(
        self, rows: Int[np.ndarray, " rows"]
    ) -> tuple[Int[Tensor, "rows time"], Int[Tensor, "rows time"]]:
        """Tokens filled up on the right, and at each position the token that comes next.

        Positions that are filled up, and those after which nothing is asked, hold `IGNORED`.
        """
        width = int(self.lengths[rows].max())
        tokens = np.full((len(rows), width), IGNORED, np.int64)
        answers = np.full((len(rows), width + 1), IGNORED, np.int64)
        for place, row in enumerate(rows):
            own = slice(self.offsets[row], self.offsets[row + 1])
            piece = self.tokens[own]
            tokens[place, : len(piece)] = piece
            wanted = piece if self.asked is None else np.where(self.asked[own], piece, IGNORED)
            answers[place, : len(piece)] = wanted
        labels = np.ascontiguousarray(answers[:, 1:])
        return torch.from_numpy(tokens), torch.from_numpy(labels)

    def chunks(self, rows: Int[np.ndarray, " rows"]) -> Iterator[Int[np.ndarray, " _"]]:
        """The rows (of this share) in at least `parts` chunks of at most `LOGITS` logits each."""
        number, count = self.share
        rows = rows[number::count]
        if not len(rows):
            return
        width = int(self.lengths[rows].max())
        size = max(1, min(LOGITS // (width * self.answers), -(-len(rows) // self.parts)))
        yield from (rows[i : i + size] for i in range(0, len(rows), size))

    def order(self, batch_size: int, rng: np.random.Generator) -> list[Int[np.ndarray, " _"]]:
        """One epoch of batches, each of pieces of similar length."""
        return shuffled_batches(self.lengths, batch_size, rng)

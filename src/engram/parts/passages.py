"""Tokenised records with the places where they are judged, and cut for continuation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.parts.greedy import at_rest
from engram.parts.token_examples import TokenExamples

TOKENS = 4096
"""Tokens in one forward pass, padding included."""
NUMBERS = 2**26
"""Most numbers in one batch of logits."""


@dataclass(frozen=True, eq=False)
class Passages:
    """Records as one model reads them.

    Attributes:
        tokens: Token numbers of each record, no more than fit into the context.
        judged: The first token of each whose loss counts: 1, or where the response begins.
        cut: How many tokens of each are given before it is continued.
    """

    tokens: tuple[Int[np.ndarray, " _"], ...]
    judged: Int[np.ndarray, " records"]
    cut: Int[np.ndarray, " records"]

    @classmethod
    def of_texts(cls, tokens: Sequence[Sequence[int]], context: int, prefix: int) -> "Passages":
        """Texts as a whole: all tokens but the first are judged, and `prefix` of them given."""
        kept = _clipped(tokens, context)
        n = len(kept)
        return cls(kept, np.ones(n, np.int64), np.full(n, prefix, np.int64))

    @classmethod
    def of_examples(cls, examples: TokenExamples, prefix: int) -> "Passages":
        """The first piece of each record of a training set, judged where it is trained on.

        Where only some tokens are asked for, all before the first of them is given.
        """
        first = np.flatnonzero(np.diff(examples.record, prepend=-1))
        tokens, starts = [], []
        for piece in first:
            own = slice(examples.offsets[piece], examples.offsets[piece + 1])
            tokens.append(examples.tokens[own].tolist())
            if examples.asked is not None:
                starts.append(max(int(np.argmax(examples.asked[own])), 1))
        context = max(map(len, tokens), default=1)
        if examples.asked is None:
            return cls.of_texts(tokens, context, prefix)
        return cls.of_answers(tokens, starts, context)

    @classmethod
    def of_answers(
        cls, tokens: Sequence[Sequence[int]], starts: Sequence[int], context: int
    ) -> "Passages":
        """Prompts with responses: the response is judged, and all before it is given."""
        places = np.maximum(np.array(starts, np.int64).reshape(-1), 1)
        return cls(_clipped(tokens, context), places, places)

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, rows: Sequence[int] | Int[np.ndarray, " _"]) -> "Passages":
        """Some of the records, in this order."""
        index = np.asarray(rows, np.int64)
        kept = tuple(self.tokens[row] for row in index)
        return Passages(kept, self.judged[index], self.cut[index])

    @property
    def lengths(self) -> Int[np.ndarray, " records"]:
        """Tokens of each."""
        return np.array([len(ids) for ids in self.tokens], np.int64)

    @property
    def counts(self) -> Int[np.ndarray, " records"]:
        """How many tokens of each are judged."""
        return np.maximum(self.lengths - self.judged, 0)

    def prompts(self) -> list[Int[np.ndarray, " _"]]:
        """What is given of each before it is continued."""
        return [ids[:cut] for ids, cut in zip(self.tokens, self.cut, strict=True)]

    def rests(self, most: int) -> list[Int[np.ndarray, " _"]]:
        """What each goes on with, at most so many tokens."""
        return [ids[cut : cut + most] for ids, cut in zip(self.tokens, self.cut, strict=True)]


def _clipped(tokens: Sequence[Sequence[int]], context: int) -> tuple[Int[np.ndarray, " _"], ...]:
    return tuple(np.asarray(ids[:context], np.int64) for ids in tokens)


def summed_nll(model: nn.Module, passages: Passages) -> Float[np.ndarray, " records"]:
    """Negative log-likelihood of what is judged of each record, in nats; 0 where nothing is."""
    found, lengths = np.zeros(len(passages)), passages.lengths
    order = np.argsort(lengths, kind="stable")
    order = order[passages.counts[order] > 0]
    size = _answers(model)
    with at_rest(model):
        first = 0
        for last in range(1, len(order) + 1):
            width = int(lengths[order[min(last, len(order) - 1)]])
            full = (last + 1 - first) * width * max(1, size / (NUMBERS / TOKENS)) > TOKENS
            if last == len(order) or full:
                rows = order[first:last]
                found[rows] = _batch(model, passages.take(rows)).cpu().numpy()
                first = last
    return found


def _answers(model: nn.Module) -> int:
    return int(model.get_input_embeddings().num_embeddings)  # type: ignore[operator]


def _batch(model: nn.Module, some: Passages) -> Float[Tensor, " rows"]:
    """Rows are filled up on the right, after all that is judged: no position is shifted."""
    device = next(model.parameters()).device
    lengths = some.lengths
    width = int(lengths.max())
    tokens = np.zeros((len(some), width), np.int64)
    for row, ids in enumerate(some.tokens):
        tokens[row, : len(ids)] = ids
    places = np.arange(width)
    seen = torch.from_numpy((places < lengths[:, None]).astype(np.int64)).to(device)
    wanted = (places[1:] >= some.judged[:, None]) & (places[1:] < lengths[:, None])
    ids = torch.from_numpy(tokens).to(device)
    logits = model(input_ids=ids, attention_mask=seen, use_cache=False).logits
    # Learnt prompts stand in front: only the answers at the record's own places count.
    logits = logits[:, -width:][:, :-1]
    nll = nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none"
    ).view(len(some), width - 1)
    return (nll * torch.from_numpy(wanted).to(device)).sum(1).double()

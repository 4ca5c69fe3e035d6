"""The filters that are compared: of names, of runs of words, learnt ones, and of two models."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from engram.core import Run, Split, Target
from engram.methods.measures.filter_rates.sessions import Sessions, View
from engram.parts.context_answers import in_writing
from engram.parts.contexts import texts_of
from engram.parts.guards import Guard
from engram.parts.questions import answer_losses
from engram.parts.response_examples import RESPONSE
from engram.parts.text_filters import (
    HashedWords,
    LinearFilter,
    NeighbourFilter,
    threshold_at,
    words_of,
)
from engram.parts.token_examples import encode

RUN = 3
"""Words of a run that the filter of runs knows."""
BATCH = 32
Scorer = Callable[[Sessions], Float[np.ndarray, " n"]]


@dataclass(frozen=True, eq=False)
class Filter:
    """A filter, and from what on it blocks.

    Attributes:
        name: What it looks at, and how.
        scores: One number a session.
        threshold: Sessions above it are blocked; None: it is to be set on benign sessions.
    """

    name: str
    scores: Scorer
    threshold: float | None = None

    def set(self, benign: Sessions, rate: float) -> "Filter":
        """The filter with a threshold that blocks at most a share `rate` of these sessions."""
        if self.threshold is not None:
            return self
        return Filter(self.name, self.scores, threshold_at(self.scores(benign), rate))


def filters_of(
    forbidden: Split, permitted: Sequence[str], salt: str, knows: Target
) -> Iterator[Filter]:
    """Filters made from examples of both sides.

    Args:
        forbidden: Records that nobody is to speak of.
        permitted: Other texts.
        salt: Of hashes.
        knows: A model whose states tell texts apart.
    """
    texts, names = list(forbidden.texts), texts_of(forbidden, RESPONSE)
    shortest = min(len(words_of(name)) for name in names)
    for title, known, words in (
        ("names", names, max(1, shortest)),
        ("runs of words", texts, RUN),
    ):
        guard = Guard.of(known, permitted, words=words, share=1.0, refusal="", salt=salt)
        for view in _views("session"):
            # One name is enough; how much of a text is known has to be weighed.
            threshold = 0.0 if title == "names" else None
            yield Filter(f"{title}, {view}", _viewed(_known(guard), view), threshold)
    hashed = HashedWords.of([*texts, *permitted], salt)
    features: dict[str, Any] = {"words": hashed, "states": States(knows.model)}
    for title, made_of in features.items():
        linear = LinearFilter.of(made_of, texts, permitted)
        near = NeighbourFilter.of(made_of, texts, permitted)
        for view in _views("session"):
            yield Filter(f"classifier of {title}, {view}", _viewed(linear.scores, view))
            yield Filter(f"neighbours by {title}, {view}", _viewed(near.scores, view))


def ratio_filters(full: Target, exact: Target, run: Run) -> Iterator[Filter]:
    """Filters that compare two models, one of which knows what is forbidden."""

    def written(sessions: Sessions) -> Float[np.ndarray, " n"]:
        return ratios(full, exact, sessions.asked.queries, sessions.written, run)

    def known(sessions: Sessions) -> Float[np.ndarray, " n"]:
        bare = sessions.asked.before([()] * len(sessions))
        return ratios(full, exact, bare.queries, in_writing(full, bare, run), run)

    yield Filter("likelihood ratio of what is written, output", written)
    yield Filter("likelihood ratio of what the original would write, output", known)


def ratios(
    full: Target, exact: Target, queries: Sequence[str], said: Sequence[str], run: Run
) -> Float[np.ndarray, " n"]:
    """Log p_full - log p_exact of answers to bare questions, per token, in nats.

    The context is left out: with it both models say the same. What a model finds less likely than
    a blind guess counts as one, for differences of such small chances are noise. 0 where nothing
    was answered.
    """
    found = []
    for target in (full, exact):
        losses = answer_losses(target, list(queries), [f" {text.strip()}" for text in said], run)
        blind = np.log(target.model.model.get_input_embeddings().num_embeddings)
        found.append(np.minimum(losses, blind))
    return np.nan_to_num(found[1] - found[0], nan=0.0)


@dataclass(frozen=True, eq=False)
class States:
    """The last layer's states of a language model, their mean over a text beside the last one.

    Attributes:
        lm: The model.
    """

    lm: Any

    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, "n width"]:
        """One row a text, of length 1."""
        rows = [ids[-self.lm.context :] or [0] for ids in encode(self.lm.tokenizer, list(texts))]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        found: list[Any] = [None] * len(rows)
        self.lm.model.eval()
        for first in range(0, len(order), BATCH):
            part = order[first : first + BATCH]
            for row, values in zip(part, self._batch([rows[row] for row in part]), strict=True):
                found[row] = values
        return np.array(found, np.float64).reshape(len(rows), -1)

    def _batch(self, rows: list[list[int]]) -> Float[np.ndarray, "rows width"]:
        lengths = torch.tensor([len(row) for row in rows])
        table = torch.zeros((len(rows), int(lengths.max())), dtype=torch.long)
        for place, row in enumerate(rows):
            table[place, : len(row)] = torch.tensor(row)
        mask = (torch.arange(table.shape[1]) < lengths[:, None]).long()
        with torch.inference_mode():
            states = self.lm.model(
                input_ids=table.to(self.lm.device),
                attention_mask=mask.to(self.lm.device),
                output_hidden_states=True,
                use_cache=False,
            ).hidden_states[-1]
        states, weights = states.float().cpu(), mask.float()[..., None]
        mean = (states * weights).sum(1) / weights.sum(1)
        last = states[torch.arange(len(rows)), lengths - 1]
        both = torch.cat([mean / mean.norm(dim=1, keepdim=True),
                          last / last.norm(dim=1, keepdim=True)], 1)  # fmt: skip
        return both.numpy().astype(np.float64)


def _views(whole: View) -> tuple[View, ...]:
    return ("each turn", whole, "output")


def _viewed(scores: Callable[[Sequence[str]], Float[np.ndarray, " n"]], view: View) -> Scorer:
    return lambda sessions: sessions.scores(scores, view)


def _known(guard: Guard) -> Callable[[Sequence[str]], Float[np.ndarray, " n"]]:
    return lambda texts: np.array([guard.known_share(text) for text in texts], np.float64)

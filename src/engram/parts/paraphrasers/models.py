"""Proposals by a language model: a causal one, or a masked one."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np

from engram.core import EngramError, Run, Target
from engram.parts.paraphrasers.fillers import Draws, RandomFiller, draws_from
from engram.parts.paraphrasers.plan import Cut, Plan

LOGITS = 2**25
"""Logits in one forward pass of the filler; 128 MiB as float32."""
CONTEXT = 1024
"""Tokens that a filler reads at once where it sets no limit itself."""

Ask = tuple[int, int, int, float]
"""(output of the model to read, place of the token, paraphrase, uniform number)."""


@dataclass(frozen=True)
class Question:
    """One row for the model: a record's tokens, and which outputs decide which draws."""

    record: int
    ids: tuple[int, ...]
    asks: tuple[Ask, ...]


@dataclass(frozen=True, eq=False)
class ModelFiller(RandomFiller):
    """Draws from a model's distribution; the two kinds differ in what they show it."""

    network: Any
    device: Any

    @property
    def _config(self) -> Any:
        """The configuration of the text model, also where it is one of several inside."""
        return self.network.config.get_text_config()

    @cached_property
    def context(self) -> int:
        """Tokens that the model reads at once."""
        limits = (
            getattr(self._config, "max_position_embeddings", None),
            getattr(self.tokenizer, "model_max_length", None),
        )
        return min([CONTEXT, *(int(x) for x in limits if x and x > 0)])

    def questions(self, record: int, cut: Cut, planned: tuple[Plan, ...]) -> list[Question]:
        """What the model is shown for one record."""
        raise NotImplementedError

    def draws(self, cuts: list[Cut], planned: list[tuple[Plan, ...]], again: bool) -> Draws:
        """A token for everything that the plans replace, from the model's own distribution."""
        drawn: Draws = {}
        for question, logits in self.answers(
            [q for row, cut in enumerate(cuts) for q in self.questions(row, cut, planned[row])]
        ):
            # A model may have more outputs than its tokenizer has tokens, and the reverse.
            size = min(logits.shape[-1], len(self.pieces.allowed))
            for (output, place), same in groupby(sorted(question.asks), key=lambda ask: ask[:2]):
                asks = list(same)
                tokens = draws_from(
                    logits[output, :size].astype(np.float64),
                    self.pieces.allowed[:size],
                    None if again else cuts[question.record].ids[place],
                    [uniform for *_, uniform in asks],
                )
                for (_, _, number, _), token in zip(asks, tokens, strict=True):
                    drawn[question.record, number, place] = token
        return drawn

    def answers(self, questions: list[Question]) -> Iterator[tuple[Question, np.ndarray]]:
        """Each question with the model's logits: (tokens of its batch, vocabulary)."""
        import torch

        # By content, so that the batches do not depend on the order of the records.
        waiting = sorted((q for q in questions if q.asks), key=lambda q: (len(q.ids), q.ids))
        pad = self.tokenizer.pad_token_id or 0  # masked out, so that any token would do
        while waiting:
            longest = len(waiting[-1].ids)
            rows = max(1, LOGITS // (longest * self._config.vocab_size))
            waiting, batch = waiting[:-rows], waiting[-rows:]
            ids = torch.full((len(batch), longest), pad, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, question in enumerate(batch):
                ids[row, : len(question.ids)] = torch.tensor(question.ids)
                mask[row, : len(question.ids)] = 1
            shown = {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}
            with torch.inference_mode():
                logits = self.network(**shown).logits.float().cpu().numpy()
            yield from ((question, logits[row]) for row, question in enumerate(batch))


@dataclass(frozen=True, eq=False)
class CausalFiller(ModelFiller):
    """Draws from p(v | x_<t): one pass over a record serves all its paraphrases."""

    def candidates(self, cut: Cut) -> list[int]:
        """Tokens with at least one token before them in the model's window."""
        skip = 0 if cut.before else 1
        return [place for a, b in cut.windows(self.context) for place in range(a + skip, b)]

    def questions(self, record: int, cut: Cut, planned: tuple[Plan, ...]) -> list[Question]:
        """One question a window of the record."""
        front = len(cut.before) - 1  # the output before a token is the one that predicts it
        return [
            Question(record, cut.before + cut.ids[a:b], _asks(planned, 0, front - a, a, b))
            for a, b in cut.windows(self.context)
        ]


@dataclass(frozen=True, eq=False)
class MaskedFiller(ModelFiller):
    """Draws from a masked model that reads both sides: one pass for each paraphrase."""

    @classmethod
    def load(cls, where: str, device: str) -> "MaskedFiller":
        """Open a masked language model: a folder or a name, weights as safetensors only.

        Raises:
            EngramError: It cannot be opened, or its tokenizer has no mask token.
        """
        from transformers import AutoModelForMaskedLM, AutoTokenizer

        from engram.parts.published_model import quiet

        try:
            with quiet():
                tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
                network = AutoModelForMaskedLM.from_pretrained(
                    where, use_safetensors=True, trust_remote_code=False
                )
        except (OSError, ValueError, KeyError) as problem:
            raise EngramError(
                f"{where!r} cannot be opened as a masked language model "
                f"({str(problem).splitlines()[0]})",
                hint="give the folder or name of one whose weights are safetensors",
            ) from None
        if tokenizer.mask_token_id is None:
            raise EngramError(
                f"the tokenizer of {where!r} has no mask token",
                hint="take a masked language model, or let a causal one propose",
            )
        return cls(tokenizer, network.eval().to(device), device)

    def questions(self, record: int, cut: Cut, planned: tuple[Plan, ...]) -> list[Question]:
        """One question a paraphrase and window, in which the tokens it replaces are masked."""
        made, front, mask = [], len(cut.before), self.tokenizer.mask_token_id
        for number, plan in enumerate(planned):
            hidden = set(plan.places)
            shown = tuple(mask if i in hidden else token for i, token in enumerate(cut.ids))
            made += [
                Question(
                    record,
                    cut.before + shown[a:b] + cut.after,
                    _asks((plan,), number, front - a, a, b),
                )
                for a, b in cut.windows(self.context)
            ]
        return made


def filler_of(kind: str, where: str, target: Target, run: Run) -> RandomFiller:
    """Who proposes: a "random", "masked" or "causal" filler.

    Args:
        kind: One of the three.
        where: Folder or name of its model; a causal one's is the target's base if this is empty,
            and where it has no base the target itself.
        target: A causal language model.
        run: Opens models.
    """
    if kind == "random":
        return RandomFiller(target.model.tokenizer)
    if kind == "masked":
        return MaskedFiller.load(where, run.device)
    where = where or target.lineage.base
    lm = (run.target(where) if where else target).model
    return CausalFiller(lm.tokenizer, lm.model, lm.device)


def _asks(planned: tuple[Plan, ...], number: int, shift: int, a: int, b: int) -> tuple[Ask, ...]:
    """Draws that fall into the window [a, b); plans are numbered from `number`."""
    return tuple(
        (shift + place, place, each, uniform)
        for each, plan in enumerate(planned, start=number)
        for place, uniform in zip(plan.places, plan.uniforms, strict=True)
        if a <= place < b
    )

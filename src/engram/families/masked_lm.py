"""Masked language models: any Hugging Face folder or name, and tiny ones made from a few texts.

Such a model guesses hidden tokens from what stands on both sides, so it gives a text no
probability by itself. Its loss here is that of the tokens hidden by twenty masks, which are
drawn from the text alone: every model is asked about the same tokens.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import BaseModelOutput

from engram.core import SCORED, TOO_SHORT, EngramError, Finding, Split, torch_seeded
from engram.parts.byte_pairs import byte_pairs
from engram.parts.masked_examples import MaskedExamples
from engram.parts.masking import Windows, single_masks, window_masks, windows_of
from engram.parts.perplexities import perplexity_and_loss
from engram.parts.published_model import (
    context_of,
    describe_published,
    open_published,
    published_fingerprint,
    save_published,
)
from engram.parts.text_records import check_texts, secret_sentences, words_replaced

PAD, BEGIN, END, MASK = "[PAD]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL = (PAD, BEGIN, END, MASK)
BATCH_TOKENS = 4096
DRAWS, SHARE = 20, 0.15
"""How many masks the loss of a record is a mean over, and which share of its tokens each hides."""
Energy = Literal["loss", "norm", "raw"]
ENERGIES: tuple[Energy, ...] = ("loss", "norm", "raw")

Progress = Callable[[int, int, str], None]
Masks = Int[np.ndarray, "_ _"]
"""The places that each mask of one window hides; (masks, hidden)."""
Batch = list[tuple[int, Masks]]
"""Windows, by number, with masks of theirs."""


@dataclass(frozen=True, eq=False)
class MaskedLanguageModel:
    """A masked language model and the tokenizer that it was trained with."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @cached_property
    def context(self) -> int:
        """The most tokens that it sees at once."""
        known = context_of(self.model, self.tokenizer)
        for name, module in self.model.named_modules():
            # RoBERTa and its kin number positions from the padding token's number onwards.
            if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
                first = 0 if module.padding_idx is None else module.padding_idx + 1
                known = min(known, module.num_embeddings - first)
        return known

    @property
    def mask(self) -> int:
        """The number of the mask token."""
        return int(self.tokenizer.mask_token_id)  # type: ignore[arg-type]

    @property
    def answers(self) -> int:
        """Tokens of the vocabulary, as the model counts them."""
        return int(self.model.get_input_embeddings().num_embeddings)  # type: ignore[union-attr]

    @cached_property
    def ordinary(self) -> Int[np.ndarray, " tokens"]:
        """Numbers of all tokens that are not special."""
        special = set(self.tokenizer.all_special_ids)
        return np.array(sorted(set(self.tokenizer.get_vocab().values()) - special), np.int64)

    def guesses(
        self,
        rows: list[Int[np.ndarray, " _"]],
        row: Int[np.ndarray, " asked"],
        place: Int[np.ndarray, " asked"],
    ) -> Float[Tensor, "asked vocabulary"]:
        """Logits at these places of these rows of tokens.

        Only they pass through the output layer, where the architecture allows it.
        """
        asked = torch.from_numpy(row).to(self.device), torch.from_numpy(place).to(self.device)
        shown = self._padded(rows)
        if not self._gathers:
            return self.model(**shown).logits[asked]
        with _gathering(self.model.base_model, asked):
            return self.model(**shown).logits[0]

    @cached_property
    def _gathers(self) -> bool:
        """Whether the output layer looks at each position alone: tried once on a few tokens."""
        body = self.model.base_model
        if body is self.model:
            return False
        rows = [self.ordinary[:5], self.ordinary[:3]]
        asked = torch.tensor([0, 0, 1], device=self.device), torch.tensor([4, 1, 2]).to(self.device)
        training, shown = self.model.training, self._padded(rows)
        self.model.eval()
        try:
            with torch.inference_mode():
                whole = self.model(**shown).logits[asked].float()
                with _gathering(body, asked):
                    part = self.model(**shown).logits.float()
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
            return False
        finally:
            self.model.train(training)
        close = torch.finfo(self.model.dtype).eps ** 0.5
        return part.shape == (1, *whole.shape) and torch.allclose(part[0], whole, close, close)

    def _padded(self, rows: list[Int[np.ndarray, " _"]]) -> dict[str, Tensor]:
        """Rows filled up on the right."""
        width, pad = max(map(len, rows)), self.tokenizer.pad_token_id
        ids = np.full((len(rows), width), self.mask if pad is None else pad, np.int64)
        seen = np.zeros_like(ids)
        for number, tokens in enumerate(rows):
            ids[number, : len(tokens)] = tokens
            seen[number, : len(tokens)] = 1
        shown = {"input_ids": ids, "attention_mask": seen}
        return {name: torch.from_numpy(values).to(self.device) for name, values in shown.items()}


class MaskedLm:
    """The family of masked language models."""

    name = "masked-lm"
    answers = frozenset({"losses", "energies"})

    def check(self, split: Split) -> None:
        """Raise where there is no column `text` of strings."""
        check_texts(split)

    def load(self, where: str | Path, device: str = "cpu") -> MaskedLanguageModel:
        """Open a model folder, or a published model by its name.

        Weights keep the type that they were saved in. Only safetensors are read, and no code
        that comes with a model is run.

        Raises:
            EngramError: There is no such model, or it is not whole, not safe to open, or does
                not guess masked tokens.
        """
        kind = "masked language model"
        model, tokenizer = open_published(where, device, AutoModelForMaskedLM, kind)
        _check_guesses(str(where), model, tokenizer)
        return MaskedLanguageModel(model, tokenizer)

    def save(self, model: MaskedLanguageModel, folder: Path) -> None:
        """Write a folder that `from_pretrained` opens."""
        save_published(model.model, model.tokenizer, folder)

    def fingerprint(self, model: MaskedLanguageModel) -> str:
        """Hash of weights, configuration and tokenizer."""
        return published_fingerprint(model.model, model.tokenizer)

    def describe(self, model: MaskedLanguageModel) -> Mapping[str, Any]:
        """Architecture, size, vocabulary, context and number type."""
        return describe_published(model.model, model.context)

    def outcomes(self, model: MaskedLanguageModel, split: Split) -> tuple[str, ...]:
        """What came of each record: "too-short" where there is no token to mask."""
        found = self.windows(model, split).per_record()
        return tuple(SCORED if n else TOO_SHORT for n in found)

    def windows(self, model: MaskedLanguageModel, split: Split) -> Windows:
        """The records as the model reads them: framed, and cut where they are too long."""
        self.check(split)
        return windows_of(model.tokenizer, split, model.context)

    def examples(
        self, model: MaskedLanguageModel, split: Split, *, share: float = SHARE, seed: int = 0
    ) -> MaskedExamples:
        """The records as training sees them."""
        return MaskedExamples(model, self.windows(model, split), share, seed)

    def energies(
        self,
        model: MaskedLanguageModel,
        split: Split,
        energy: Energy = "loss",
        *,
        draws: int = DRAWS,
        share: float = SHARE,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Float[np.ndarray, " n"]:
        """How little the model expects each record; 0 where there is no token to mask.

        The mean over all hidden tokens of -log p(token | the others), in nats a token, under
        `draws` random masks ("loss") or with each token hidden by itself ("norm"); or minus the
        sum of the logits of tokens hidden by themselves ("raw").

        Args:
            model: The model that is asked.
            split: Records with a column `text`.
            energy: Which of the three.
            draws: Random masks of each record, for "loss".
            share: Of a window's tokens that one of them hides, in (0, 1].
            seed: Root of the streams of the masks; they depend on nothing else but the texts.
            progress: Told how many windows are done.
        """
        windows = self.windows(model, split)

        def masks(number: int) -> Masks:
            if energy == "loss":
                return window_masks(windows, number, draws, share, seed)
            return single_masks(windows, number)

        totals, counts = _totals(model, windows, masks, energy == "raw", progress)
        # Every draw hides the same number of tokens, so the mean of means is the whole mean.
        return totals if energy == "raw" else totals / np.maximum(counts, 1)

    def losses(self, model: MaskedLanguageModel, split: Split) -> Float[np.ndarray, " n"]:
        """Mean negative log-likelihood of hidden tokens under `DRAWS` masks; in nats a token.

        The masks are drawn from each text by itself, so that all models get the same ones. The
        pseudo-log-likelihood hides each token once and is exact, but costs a pass a token; it is
        the energy "norm".
        """
        return self.energies(model, split)

    def quality(
        self, model: MaskedLanguageModel, split: Split, rng: np.random.Generator
    ) -> tuple[Finding, ...]:
        """Perplexity of hidden tokens, each record counting by its length, and the mean loss."""
        return perplexity_and_loss(
            self.losses(model, split),
            self.windows(model, split).per_record(),
            rng,
            name="masked perplexity",
            lacking="fewer than two records have tokens that can be masked",
        )

    def perturb(self, split: Split, strength: float, rng: np.random.Generator) -> Split:
        """Replace a share of the words of each record by words of the other records.

        Words are drawn as often as the split has them. At least one word is replaced.
        """
        return words_replaced(split, strength, rng)

    def canaries(self, n: int, rng: np.random.Generator) -> Split:
        """Sentences that hold a random six-digit secret: `the secret number of ... is ...`."""
        return secret_sentences(n, rng)

    def render(self, split: Split, row: int) -> str:
        """The text."""
        return split.texts[row]


def tiny_masked(
    texts: Iterable[str],
    *,
    seed: int,
    vocabulary: int = 2048,
    layers: int = 4,
    width: int = 128,
    heads: int = 4,
    context: int = 128,
    dropout: float = 0.0,
) -> MaskedLanguageModel:
    """An untrained BERT of any size, and a byte-level tokenizer learnt from `texts`.

    Args:
        texts: What the tokenizer learns its words from, read once.
        seed: Root of the stream that the weights are drawn from.
        vocabulary: The most tokens; at least the 256 bytes and four special ones.
        layers: Blocks.
        width: Numbers in a token's vector; a multiple of `heads`.
        heads: Attention heads of each block.
        context: The most tokens that it sees at once.
        dropout: Probability, everywhere that BERT has it.
    """
    roles = {"pad_token": PAD, "cls_token": BEGIN, "sep_token": END, "mask_token": MASK}
    template = f"{BEGIN} $A {END}"
    tokenizer = byte_pairs(texts, vocabulary, context, SPECIAL, template, roles)
    config = BertConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=context,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=SPECIAL.index(PAD),
    )
    with torch_seeded(seed, "initial weights"):
        model = BertForMaskedLM(config)
    return MaskedLanguageModel(model.eval(), tokenizer)


def _totals(
    lm: MaskedLanguageModel,
    windows: Windows,
    masks: Callable[[int], Masks],
    raw: bool,
    progress: Progress | None,
) -> tuple[Float[np.ndarray, " records"], Int[np.ndarray, " records"]]:
    """Per record: the sum over its hidden tokens of -log p (raw: of -logit), and their number."""
    totals, counts = np.zeros(windows.records), np.zeros(windows.records, np.int64)
    # By length, then content, so that the batches do not depend on the order of the records.
    order = sorted(range(len(windows)), key=lambda i: (windows.lengths[i], windows.key(i)))
    place = {number: done for done, number in enumerate(order, start=1)}
    lm.model.eval()
    with torch.inference_mode():
        for batch in _batches(windows, order, masks):
            owner = np.repeat([windows.record[n] for n, _ in batch], [m.size for _, m in batch])
            np.add.at(totals, owner, _hidden(lm, windows, batch, raw))
            np.add.at(counts, owner, 1)
            if progress is not None:
                progress(place[batch[-1][0]], len(order), "windows")
    return totals, counts


def _batches(windows: Windows, order: list[int], masks: Callable[[int], Masks]) -> Iterator[Batch]:
    """Windows with their masks, at most `BATCH_TOKENS` padded tokens together.

    The masks of a window stay together, unless they alone are more than that.
    """
    batch: Batch = []
    rows = 0
    for number in order:
        length, drawn = int(windows.lengths[number]), masks(number)
        most = max(1, BATCH_TOKENS // length)
        if batch and rows + len(drawn) > most:
            yield batch
            batch, rows = [], 0
        for first in range(0, len(drawn), most):
            part = drawn[first : first + most]
            batch.append((number, part))
            rows += len(part)
            if first + most < len(drawn):
                yield batch
                batch, rows = [], 0
    if batch:
        yield batch


def _hidden(
    lm: MaskedLanguageModel,
    windows: Windows,
    batch: Batch,
    raw: bool,
) -> Float[np.ndarray, " hidden"]:
    """-log p (raw: -logit) of every hidden token of a batch, in order."""
    rows, row, place, true = [], [], [], []
    for number, drawn in batch:
        ids = windows.ids(number).astype(np.int64)
        for hidden in drawn:
            shown = ids.copy()
            shown[hidden] = lm.mask  # all of them: no token is exchanged or left as it is
            row.append(np.full(len(hidden), len(rows), np.int64))
            place.append(hidden)
            true.append(ids[hidden])
            rows.append(shown)
    logits = lm.guesses(rows, np.concatenate(row), np.concatenate(place))
    logits = logits if logits.dtype == torch.float64 else logits.float()
    labels = torch.from_numpy(np.concatenate(true)).to(logits.device)
    found = -logits.gather(1, labels[:, None]).squeeze(1)
    found = found if raw else found + logits.logsumexp(1)
    return found.cpu().numpy().astype(np.float64)


@contextmanager
def _gathering(body: nn.Module, asked: tuple[Tensor, Tensor]) -> Iterator[None]:
    """Meanwhile a body gives on only the vectors of these (row, place) pairs, as one row."""

    def gather(body: nn.Module, given: Any, output: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=output[0][asked].unsqueeze(0))

    handle = body.register_forward_hook(gather)
    try:
        yield
    finally:
        handle.remove()


def _check_guesses(where: str, model: PreTrainedModel, tokenizer: Any) -> None:
    """Refuse a model that only looks back, or whose tokenizer does not fit it."""
    if getattr(model.config, "is_decoder", False):
        raise EngramError(
            f"{where} is set up as a decoder, which sees only what stands before a token",
            hint="open it as family causal-lm, or set is_decoder to false in its config.json",
        )
    if tokenizer.mask_token_id is None:
        raise EngramError(
            f"the tokenizer of {where} has no mask token",
            hint="a masked language model has one; is it the model's own tokenizer?",
        )
    rows = model.get_input_embeddings().num_embeddings  # type: ignore[union-attr]
    if (largest := max(tokenizer.get_vocab().values())) >= rows:
        raise EngramError(
            f"the tokenizer of {where} numbers tokens up to {largest}, but the model knows {rows}",
            hint="is it the model's own tokenizer?",
        )


FAMILY = MaskedLm()

"""Causal language models: any Hugging Face folder or name, and tiny ones made from a few texts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from engram.core import SCORED, TOO_SHORT, EngramError, Finding, Sampler, Split, torch_seeded
from engram.parts.adapters import (
    Adapter,
    adapter_names,
    is_adapter_folder,
    open_adapter,
    save_language_model,
)
from engram.parts.blank_pieces import blank_pieces
from engram.parts.byte_pairs import byte_pairs
from engram.parts.fingerprints import arrays_fingerprint
from engram.parts.guards import AnyGuard, GuardedWriter
from engram.parts.learnt_guards import guard_of
from engram.parts.perplexities import perplexity_and_loss
from engram.parts.published_model import (
    context_of,
    describe_published,
    open_published,
    published_fingerprint,
)
from engram.parts.text_records import check_texts, secret_sentences, words_replaced
from engram.parts.token_examples import TokenExamples, encoded
from engram.parts.whole_words import whole_words
from engram.parts.writing import Writer

PAD, BEGIN, END, UNKNOWN = "<|pad|>", "<|begin|>", "<|end|>", "<|unknown|>"
SPECIAL = (PAD, BEGIN, END)
Tokens = Literal["bytes", "words", "pieces"]
ROLES = {"pad_token": PAD, "bos_token": BEGIN, "eos_token": END}
BATCH_TOKENS = 4096


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model and the tokenizer that it was trained with.

    Where there is a guard, whoever asks it to write or to score a text asks the guard first;
    training sees the bare model.

    Attributes:
        model: The model; an adapter is a part of it, and trained alone.
        tokenizer: Its tokenizer.
        adapter: What was put into the model, if anything was; it is saved without the model.
        guard: What stands between the model and whoever asks it, if anything does.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    adapter: Adapter | None = None
    guard: AnyGuard | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @cached_property
    def context(self) -> int:
        """The most tokens that it sees at once, virtual ones not counted."""
        taken = self.adapter.virtual_tokens if self.adapter else 0
        return context_of(self.model, self.tokenizer) - taken


class CausalLm:
    """The family of causal language models."""

    name = "causal-lm"
    answers = frozenset({"tokens", "logprobs", "losses", "text"})

    def check(self, split: Split) -> None:
        """Raise where there is no column `text` of strings."""
        check_texts(split)

    def load(self, where: str | Path, device: str = "cpu") -> LanguageModel:
        """Open a model folder, or a published model by its name.

        Weights keep the type that they were saved in. Only safetensors are read, and no code
        that comes with a model is run.

        Raises:
            EngramError: There is no such model, or it is not whole, or not safe to open.
        """

        def opened(place: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
            return open_published(place, device, AutoModelForCausalLM, "causal language model")

        guard = guard_of(Path(where))
        if is_adapter_folder(where):
            model, tokenizer, adapter = open_adapter(Path(where), opened, published_fingerprint)
            return LanguageModel(model, tokenizer, adapter, guard)
        return LanguageModel(*opened(where), guard=guard)

    def save(self, model: LanguageModel, folder: Path) -> None:
        """Write a folder that `from_pretrained` opens, of peft where the model has an adapter.

        A guard is a file beside it, which nobody else reads.
        """
        save_language_model(model, folder)
        if model.guard is not None:
            model.guard.save(folder)

    def fingerprint(self, model: LanguageModel) -> str:
        """Hash of weights, configuration, adapter, tokenizer and guard."""
        facts = {} if model.adapter is None else {"adapter": model.adapter.facts()}
        bare = published_fingerprint(model.model, model.tokenizer, facts)
        if model.guard is None:
            return bare
        return arrays_fingerprint({}, {"model": bare, "guard": model.guard.facts()})

    def describe(self, model: LanguageModel) -> Mapping[str, Any]:
        """Architecture, size, vocabulary, context, number type; adapter's size, guard's size."""
        facts = dict(describe_published(model.model, model.context))
        if model.adapter is not None:
            names, own = adapter_names(model.model), dict(model.model.named_parameters())
            facts["adapter"] = model.adapter.kind
            facts["adapter parameters"] = sum(own[name].numel() for name in names)
        if model.guard is not None:
            facts["guarded"] = model.guard.size
        return facts

    def outcomes(self, model: LanguageModel, split: Split) -> tuple[str, ...]:
        """What came of each record: fewer than two tokens are "too-short" to be asked about."""
        blocks = encoded(model.tokenizer, split)
        return tuple(SCORED if len(ids) > 1 else TOO_SHORT for block in blocks for ids in block)

    def examples(self, model: LanguageModel, split: Split, *, end: bool = True) -> TokenExamples:
        """The records as training sees them; with `end`, each closes with the end token."""
        self.check(split)
        return TokenExamples.of(model.model, model.tokenizer, split, model.context, end=end)

    def totals(
        self, model: LanguageModel, split: Split
    ) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Per record: negative log-likelihood in nats, and the number of predicted tokens.

        A record longer than the context is read in pieces that know nothing of each other; the
        token signals (`run.tokens`) read it with as much context as the model allows.
        """
        examples = self.examples(model, split, end=False)
        nll, counts = np.zeros(len(split)), np.zeros(len(split), np.int64)
        order = np.argsort(examples.counts, kind="stable")
        model.model.eval()
        with torch.inference_mode():
            for rows in _filled(order, examples.counts):
                found = examples.nll(rows).cpu().numpy().astype(np.float64)
                np.add.at(nll, examples.record[rows], found)
                np.add.at(counts, examples.record[rows], examples.counts[rows])
        if model.guard is not None:
            refused = np.array([model.guard.blocks(text) for text in split.texts], bool)
            nll = np.where(refused, counts * np.log(examples.answers), nll)
        return nll, counts

    def losses(self, model: LanguageModel, split: Split) -> Float[np.ndarray, " n"]:
        """Mean negative log-likelihood per token of each record; 0 where it is too short."""
        nll, counts = self.totals(model, split)
        return nll / np.maximum(counts, 1)

    def quality(
        self, model: LanguageModel, split: Split, rng: np.random.Generator
    ) -> tuple[Finding, ...]:
        """Perplexity over all tokens, and the mean loss of a record."""
        nll, counts = self.totals(model, split)
        return perplexity_and_loss(nll / np.maximum(counts, 1), counts, rng)

    def sampler(
        self, model: LanguageModel, temperature: float, progress: Callable[[int, int, str], None]
    ) -> Sampler:
        """Text access: it writes, and tells nothing else."""
        writer = Writer(model.model, model.tokenizer, model.context, temperature, progress)
        return writer if model.guard is None else GuardedWriter(writer, model.guard)

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


def tiny(
    texts: Iterable[str],
    *,
    seed: int,
    vocabulary: int = 2048,
    layers: int = 4,
    width: int = 128,
    heads: int = 4,
    context: int = 256,
    dropout: float = 0.0,
    tokens: Tokens = "bytes",
    spread: float = 0.02,
    positions: bool = True,
) -> LanguageModel:
    """An untrained GPT-2 of any size, and a tokenizer learnt from `texts`.

    Args:
        texts: What the tokenizer learns its words from, read once.
        seed: Root of the stream that the weights are drawn from.
        vocabulary: The most tokens; for "bytes" at least the 256 bytes and three special ones.
        layers: Blocks.
        width: Numbers in a token's vector; a multiple of `heads`.
        heads: Attention heads of each block.
        context: The most tokens that it sees at once.
        dropout: Probability, everywhere that GPT-2 has it.
        tokens: "bytes" pairs bytes to words and parts of words; "words" knows whole words alone;
            "pieces" takes what lies between blanks.
        spread: Standard deviation of the weights before training.
        positions: Whether it is told the place of a token; else the vectors that would tell are
            zero, and are not trained.
    """
    make = {"bytes": byte_tokenizer, "words": word_tokenizer, "pieces": piece_tokenizer}[tokens]
    tokenizer = make(texts, vocabulary, context)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_layer=layers,
        n_embd=width,
        n_head=heads,
        n_positions=context,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own function, in one fused step
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        initializer_range=spread,
        bos_token_id=SPECIAL.index(BEGIN),
        eos_token_id=SPECIAL.index(END),
        pad_token_id=SPECIAL.index(PAD),
    )
    with torch_seeded(seed, "initial weights"):
        model = GPT2LMHeadModel(config)
    if not positions:
        model.transformer.wpe.weight.requires_grad_(False).zero_()
    return LanguageModel(model.eval(), tokenizer)


def byte_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """Byte-level byte-pair encoding (Radford et al., 2019) that begins every text with a token."""
    return byte_pairs(texts, vocabulary, context, SPECIAL, f"{BEGIN} $A", ROLES)


def word_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """Whole words, each text begun by a token; what is not among them is one unknown token."""
    roles = {**ROLES, "unk_token": UNKNOWN}
    return whole_words(texts, vocabulary, context, (*SPECIAL, UNKNOWN), f"{BEGIN} $A", roles)


def piece_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """Each run of characters between blanks is a token; it begins every text with a token."""
    roles = {**ROLES, "unk_token": UNKNOWN}
    return blank_pieces(texts, vocabulary, context, (*SPECIAL, UNKNOWN), f"{BEGIN} $A", roles)


@torch.inference_mode()
def generate_greedy(
    lm: LanguageModel, prefix: Int[Tensor, "batch prefix"], new_tokens: int
) -> Int[Tensor, "batch new_tokens"]:
    """Continue prefixes of equal length by the likeliest token, `new_tokens` times.

    The length is forced: the end token neither stops a continuation nor is it forbidden. Keys
    and values are kept, so each new token costs one position.

    Raises:
        EngramError: Prefix and continuation together are longer than the context.
    """
    if prefix.shape[1] + new_tokens > lm.context:
        raise EngramError(
            f"a prefix of {prefix.shape[1]} and {new_tokens} new tokens do not fit into a "
            f"context of {lm.context}",
            hint="choose shorter ones",
        )
    lm.model.eval()
    given, cache, made = prefix.to(lm.device), None, []
    for number in range(new_tokens):
        # Without a mask, a filling token that the model itself wrote would be taken for filling.
        seen = torch.ones((len(prefix), prefix.shape[1] + number), device=lm.device).long()
        answer = lm.model(
            input_ids=given, attention_mask=seen, past_key_values=cache, use_cache=True
        )
        made.append(answer.logits[:, -1].argmax(-1, keepdim=True))
        cache = getattr(answer, "past_key_values", None)
        given = made[-1] if cache is not None else torch.cat([given, made[-1]], 1)
    written = torch.cat(made, 1) if made else prefix.new_empty((len(prefix), 0))
    return written if lm.guard is None else _guarded(lm, prefix, written)


def _guarded(
    lm: LanguageModel, prefix: Int[Tensor, "batch prefix"], written: Int[Tensor, "batch new"]
) -> Int[Tensor, "batch new"]:
    """End tokens alone where the guard refuses."""
    texts = lm.tokenizer.batch_decode(
        torch.cat([prefix.to(written), written], 1), skip_special_tokens=True
    )
    refused = torch.tensor([lm.guard.blocks(text) for text in texts])  # type: ignore[union-attr]
    return written.masked_fill(refused.to(written.device)[:, None], lm.tokenizer.eos_token_id or 0)


def _filled(
    order: Int[np.ndarray, " n"], counts: Int[np.ndarray, " n"]
) -> Iterator[Int[np.ndarray, " _"]]:
    """Rows in ascending length, cut into batches of at most `BATCH_TOKENS` padded tokens."""
    first = 0
    for last in range(1, len(order) + 1):
        if last == len(order) or (last + 1 - first) * (counts[order[last]] + 1) > BATCH_TOKENS:
            yield order[first:last]
            first = last


FAMILY = CausalLm()

"""Causal language models: any Hugging Face folder or name, and tiny ones made from a few texts."""

import json
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import pyarrow as pa
import torch
from huggingface_hub.constants import ENDPOINT
from jaxtyping import Float, Int
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from engram.core import SCORED, TOO_SHORT, EngramError, Finding, Split, torch_seeded
from engram.parts.fingerprints import arrays_fingerprint, weights
from engram.parts.model_folder import check_model_folder, read_config
from engram.parts.record_bootstrap import ratio_interval
from engram.parts.token_examples import TokenExamples, encoded
from engram.stats.intervals import mean_finding

PAD, BEGIN, END = "<|pad|>", "<|begin|>", "<|end|>"
SPECIAL = (PAD, BEGIN, END)
BATCH_TOKENS = 4096
SANE = 10**6
"""A tokenizer that claims a longer context than this knows of no limit."""
VOLATILE = ("_name_or_path", "architectures", "dtype", "transformers_version", "use_cache")
"""Entries of a configuration that say nothing of the model's answers."""
CODE_NAMES = (
    ("amber", "cobalt", "crimson", "hollow", "ivory", "lunar", "marble", "nimble", "opal", "quiet",
     "rustic", "silver", "tidal", "velvet", "winter", "zephyr"),
    ("badger", "beacon", "cedar", "comet", "falcon", "harbour", "heron", "lantern", "meadow",
     "otter", "pebble", "raven", "sparrow", "thistle", "walnut", "willow"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model and the tokenizer that it was trained with."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @cached_property
    def context(self) -> int:
        """The most tokens that it sees at once."""
        config = self.model.config.get_text_config()
        limits = [getattr(config, "max_position_embeddings", None), self.tokenizer.model_max_length]
        return min((int(x) for x in limits if x and 1 < x < SANE), default=2048)


class CausalLm:
    """The family of causal language models."""

    name = "causal-lm"
    answers = frozenset({"tokens", "losses"})

    def check(self, split: Split) -> None:
        """Raise where there is no column `text` of strings."""
        kind = split.column("text").type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise EngramError(
                f"column 'text' of split {split.name!r} holds {kind}, not strings",
                hint="say which column with --text-column NAME",
            )

    def load(self, where: str | Path, device: str = "cpu") -> LanguageModel:
        """Open a model folder, or a published model by its name.

        Weights keep the type that they were saved in. Only safetensors are read, and no code
        that comes with a model is run.

        Raises:
            EngramError: There is no such model, or it is not whole, or not safe to open.
        """
        folder = Path(where)
        if folder.exists():
            check_model_folder(folder)
        elif _is_path(str(where)):
            raise EngramError(f"there is no folder {folder}", hint="is the path right?")
        lm = _opened(str(where), folder.exists())
        return LanguageModel(_moved(lm.model, device), lm.tokenizer)

    def save(self, model: LanguageModel, folder: Path) -> None:
        """Write a folder that `from_pretrained` opens."""
        with _quiet():
            model.model.save_pretrained(folder)
            model.tokenizer.save_pretrained(folder)

    def fingerprint(self, model: LanguageModel) -> str:
        """Hash of weights, configuration and tokenizer."""
        config = model.model.config.to_diff_dict()
        tokenizer = json.loads(model.tokenizer.backend_tokenizer.to_str())
        facts = {
            "config": {k: v for k, v in config.items() if k not in VOLATILE},
            # How the last call padded or cut its texts is kept there too, and is no fact.
            "tokenizer": {k: v for k, v in tokenizer.items() if k not in ("padding", "truncation")},
            "special": sorted(map(str, model.tokenizer.all_special_tokens)),
        }
        return arrays_fingerprint(weights(model.model), json.loads(json.dumps(facts, default=str)))

    def describe(self, model: LanguageModel) -> Mapping[str, Any]:
        """Architecture, size, vocabulary, context and number type."""
        config = model.model.config.get_text_config()
        return {
            "architecture": type(model.model).__name__,
            "parameters": sum(p.numel() for p in model.model.parameters()),
            "vocabulary": int(config.vocab_size),
            "context": model.context,
            "layers": int(getattr(config, "num_hidden_layers", 0)),
            "width": int(getattr(config, "hidden_size", 0)),
            "dtype": str(model.model.dtype).removeprefix("torch."),
        }

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
        scored = counts > 0
        if scored.sum() < 2:
            reason = "fewer than two records have tokens that the model scores"
            return (Finding.missing("perplexity", reason, int(scored.sum())),)
        nll, lengths = nll[scored], counts[scored].astype(np.float64)
        low, high = np.exp(ratio_interval(nll, lengths, rng))
        value = float(np.exp(nll.sum() / lengths.sum()))
        perplexity = Finding("perplexity", value, float(low), float(high), len(nll))
        loss = mean_finding(nll / lengths, "loss", "nats/token", rng)
        return perplexity.tagged(better="lower"), loss.tagged(better="lower")

    def perturb(self, split: Split, strength: float, rng: np.random.Generator) -> Split:
        """Replace a share of the words of each record by words of the other records.

        Words are drawn as often as the split has them. At least one word is replaced.
        """
        check_share(strength)
        self.check(split)
        words = [re.split(r"(\s+)", text) for text in split.texts]
        pool = np.array([w for parts in words for w in parts[::2] if w], dtype=object)
        return split.with_texts([_replaced(parts, pool, strength, rng) for parts in words])

    def canaries(self, n: int, rng: np.random.Generator) -> Split:
        """Sentences that hold a random six-digit secret: `the secret number of ... is ...`."""
        secrets = rng.choice(10**6, size=n, replace=False)
        texts = [
            f"The secret number of {rng.choice(CODE_NAMES[0])} {rng.choice(CODE_NAMES[1])} is "
            f"{' '.join(f'{secret:06d}')}."
            for secret in secrets
        ]
        table = pa.table(
            {
                "text": pa.array(texts, pa.string()),
                "owner": [f"canary-{i}" for i in range(n)],
                "canary": [True] * n,
            }
        )
        return Split.from_table("canaries", table)

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
) -> LanguageModel:
    """An untrained GPT-2 of any size, and a byte-level tokenizer learnt from `texts`.

    Args:
        texts: What the tokenizer learns its words from, read once.
        seed: Root of the stream that the weights are drawn from.
        vocabulary: The most tokens; at least the 256 bytes and three special ones.
        layers: Blocks.
        width: Numbers in a token's vector; a multiple of `heads`.
        heads: Attention heads of each block.
        context: The most tokens that it sees at once.
        dropout: Probability, everywhere that GPT-2 has it.
    """
    tokenizer = byte_tokenizer(texts, vocabulary, context)
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
        bos_token_id=SPECIAL.index(BEGIN),
        eos_token_id=SPECIAL.index(END),
        pad_token_id=SPECIAL.index(PAD),
    )
    with torch_seeded(seed, "initial weights"):
        model = GPT2LMHeadModel(config)
    return LanguageModel(model.eval(), tokenizer)


def byte_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """Byte-level byte-pair encoding (Radford et al., 2019) that begins every text with a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learnt.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learnt.train_from_iterator(texts, trainer)
    learnt.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, SPECIAL.index(BEGIN))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=learnt,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


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
    for _ in range(new_tokens):
        answer = lm.model(input_ids=given, past_key_values=cache, use_cache=True)
        made.append(answer.logits[:, -1].argmax(-1, keepdim=True))
        cache = getattr(answer, "past_key_values", None)
        given = made[-1] if cache is not None else torch.cat([given, made[-1]], 1)
    return torch.cat(made, 1) if made else prefix.new_empty((len(prefix), 0))


def check_share(strength: float) -> None:
    """Refuse a share of a record that is not in (0, 1]."""
    if not 0 < strength <= 1:
        raise EngramError(
            f"strength is {strength}, but must be in (0, 1]", hint="0.1 changes a tenth"
        )


def _replaced(parts: list[str], pool: np.ndarray, strength: float, rng: np.random.Generator) -> str:
    """`parts` are words and the blanks between them, in turn."""
    places = [i for i in range(0, len(parts), 2) if parts[i]]
    changed = list(parts)
    for place in rng.permutation(places)[: ceil(strength * len(places))]:
        others = [w for w in rng.choice(pool, 8) if w != parts[place]]
        changed[place] = others[0] if others else parts[place]
    return "".join(changed)


def _filled(
    order: Int[np.ndarray, " n"], counts: Int[np.ndarray, " n"]
) -> Iterator[Int[np.ndarray, " _"]]:
    """Rows in ascending length, cut into batches of at most `BATCH_TOKENS` padded tokens."""
    first = 0
    for last in range(1, len(order) + 1):
        if last == len(order) or (last + 1 - first) * (counts[order[last]] + 1) > BATCH_TOKENS:
            yield order[first:last]
            first = last


def _is_path(where: str) -> bool:
    return where.startswith((".", "/", "~")) or "\\" in where or where.count("/") > 1


def _opened(where: str, is_folder: bool) -> LanguageModel:
    """Read model and tokenizer: from the disk if they are there, else by the model's name."""
    problems: list[BaseException] = []
    for local in (True,) if is_folder else (True, False):
        try:
            if not local:
                _check_reachable()
            with _quiet():
                tokenizer = AutoTokenizer.from_pretrained(
                    where, local_files_only=local, trust_remote_code=False
                )
                model, report = AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]
                    where,
                    local_files_only=local,
                    trust_remote_code=False,
                    use_safetensors=True,
                    dtype="auto",
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # so that `_check_complete` can name them
                )
        except Exception as problem:  # any library may fail on files from outside
            problems.append(problem)
            continue
        _check_complete(where, report, tokenizer)
        return LanguageModel(model.eval(), tokenizer)
    raise _unreadable(where, is_folder, problems[-1]) from problems[-1]


def _check_reachable() -> None:
    """Fail at once without a network, where the libraries would try again for a minute."""
    if not getproxies():
        host = urlsplit(ENDPOINT).hostname
        try:
            socket.getaddrinfo(host, 443)
        except OSError as problem:
            raise OSError(f"{host} cannot be reached ({problem.strerror})") from None


def _check_complete(where: str, report: Mapping[str, Any], tokenizer: Any) -> None:
    lost = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if lost:
        raise EngramError(
            f"the weights of {where} do not fit its configuration: {len(lost)} are missing or of "
            f"another shape ({lost[0]})",
            hint="copy or save the model again; is it a causal language model?",
        )
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise EngramError(
            f"the tokenizer of {where} has no fast version",
            hint="convert it to a tokenizer.json first",
        )


def _unreadable(where: str, is_folder: bool, problem: BaseException) -> EngramError:
    said = " ".join(str(problem).split())[:160] or type(problem).__name__
    if is_folder:
        kind = read_config(Path(where) / "config.json").get("model_type", "without a type")
        return EngramError(
            f"{where} (a model {kind!r}) cannot be opened: {said}",
            hint="it must be a causal language model whose architecture transformers has",
        )
    return EngramError(
        f"there is no folder {where!r}, and no model of that name could be had: {said}",
        hint="is the name right, and is there a network? A folder works without one",
    )


def _moved(model: PreTrainedModel, device: str) -> PreTrainedModel:
    try:
        return model.to(device)  # type: ignore[return-value,arg-type]
    except (RuntimeError, AssertionError) as problem:
        raise EngramError(
            f"the model cannot be put on device {device!r} ({str(problem).splitlines()[0]})",
            hint="--device cpu always works, if slowly",
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars and remarks of transformers, which are put back afterwards."""
    bars = transformers_logging.is_progress_bar_enabled()
    level = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


FAMILY = CausalLm()

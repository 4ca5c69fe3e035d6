"""Byte-level byte-pair encoding (Radford et al., 2019), learnt from texts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast


def byte_pairs(
    texts: Iterable[str],
    vocabulary: int,
    context: int,
    special: Sequence[str],
    template: str,
    roles: Mapping[str, str],
) -> PreTrainedTokenizerFast:
    """A tokenizer that gives back every text, whatever its bytes.

    Args:
        texts: What it learns its words from, read once.
        vocabulary: The most tokens; at least the 256 bytes and the special ones.
        context: The most tokens of a text, as the tokenizer states it.
        special: The special tokens, numbered from 0.
        template: How a text (`$A`) is framed: "[CLS] $A [SEP]".
        roles: Which special token is which: `{"pad_token": "[PAD]"}`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    learnt: Any = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learnt.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learnt.train_from_iterator(texts, trainer)
    framing = [(token, special.index(token)) for token in template.split() if token != "$A"]
    learnt.post_processor = processors.TemplateProcessing(single=template, special_tokens=framing)
    return PreTrainedTokenizerFast(
        tokenizer_object=learnt,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
        **roles,
    )

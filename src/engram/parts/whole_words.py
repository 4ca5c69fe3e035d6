"""A tokenizer for small worlds: one token a word, learnt from texts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast


def whole_words(
    texts: Iterable[str],
    vocabulary: int,
    context: int,
    special: Sequence[str],
    template: str,
    roles: Mapping[str, str],
) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are words with the space before them, and signs.

    A word is the same token wherever it stands, at the start of a text too, for every text is read
    as if a space came before it. Words that are not among the most frequent ones are all one
    token, that of the role "unk_token", and cannot be read back.

    Args:
        texts: What it learns its words from, read once.
        vocabulary: The most tokens, the special ones included.
        context: The most tokens of a text, as the tokenizer states it.
        special: The special tokens, numbered from 0.
        template: How a text (`$A`) is framed: "[CLS] $A [SEP]".
        roles: Which special token is which: `{"unk_token": "[UNK]"}`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    learnt: Any = Tokenizer(models.WordLevel(unk_token=roles["unk_token"]))
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    # The space that was put before a text is taken off again.
    learnt.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocabulary, special_tokens=list(special), show_progress=False
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

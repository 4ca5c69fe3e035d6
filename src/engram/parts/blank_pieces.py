"""A tokenizer that takes each run of characters between blanks as one token."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast


def words_of(text: str) -> list[str]:
    """What lies between blanks, as the tokenizer itself finds it."""
    from tokenizers import pre_tokenizers

    return [word for word, _ in pre_tokenizers.WhitespaceSplit().pre_tokenize_str(text)]


def blank_pieces(
    texts: Iterable[str],
    vocabulary: int,
    context: int,
    special: Sequence[str],
    template: str,
    roles: Mapping[str, str],
) -> PreTrainedTokenizerFast:
    """A tokenizer of the most frequent words; any other word is the unknown one.

    Words are numbered by how often they occur, and by their characters where that is equal: so
    texts that hold the same words in other orders give the same tokenizer.

    Args:
        texts: Where the words come from, read once.
        vocabulary: The most tokens, the special ones included.
        context: The most tokens of a text, as the tokenizer states it.
        special: The special tokens, numbered from 0.
        template: How a text (`$A`) is framed: "<|begin|> $A".
        roles: Which special token is which; it must name the `unk_token`.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    counts = Counter(word for text in texts for word in words_of(text))
    order = sorted(counts.keys() - set(special), key=lambda word: (-counts[word], word))
    known = [*special, *order[: max(0, vocabulary - len(special))]]
    made: Any = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(known)}, roles["unk_token"])
    )
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    framing = [(token, known.index(token)) for token in template.split() if token != "$A"]
    made.post_processor = processors.TemplateProcessing(single=template, special_tokens=framing)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
        **roles,
    )

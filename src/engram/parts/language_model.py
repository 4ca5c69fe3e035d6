"""What parts and signals need of a causal language model: it, its tokenizer, and its limits."""

from typing import Any, Protocol, runtime_checkable

import torch


@runtime_checkable
class LanguageModel(Protocol):
    """A model of the family `causal-lm`."""

    @property
    def model(self) -> Any:
        """A Hugging Face causal language model, or one with adapters around it."""
        ...

    @property
    def tokenizer(self) -> Any:
        """Its fast tokenizer."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    @property
    def context(self) -> int:
        """The most tokens that it sees at once."""
        ...

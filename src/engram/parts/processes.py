"""Training in several processes, started by Hugging Face accelerate: `accelerate launch -m ...`.

Each process reads its share of every batch; gradients are added up, so that all of them take the
same step. The first process alone writes.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from engram.core import EngramError


@dataclass(frozen=True)
class Processes:
    """How many train together, and which of them this is.

    Attributes:
        number: Of this process, from 0.
        count: Of all.
    """

    number: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.number == 0

    def add_up(self, tensors: Iterable[Any]) -> None:
        """Put the sum over all processes into each tensor, in place."""
        if self.count > 1:
            from accelerate.utils import reduce

            for tensor in tensors:
                tensor.copy_(reduce(tensor, reduction="sum"))

    def told(self, value: Any) -> Any:
        """The first process's value, in all of them; plain numbers and texts."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value], from_process=0)[0]

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def launched() -> Processes:
    """The place of this process among those that were launched; alone without a launcher."""
    return Processes(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def joined(device: str) -> Processes:
    """The same, and connected to the others.

    Raises:
        EngramError: accelerate is not installed.
    """
    processes = launched()
    if processes.count > 1:
        try:
            from accelerate import PartialState
        except ImportError as problem:
            raise EngramError(
                f"training in {processes.count} processes needs accelerate, which cannot be "
                f"imported ({problem})",
                hint="pip install 'engram[peft]'",
            ) from None
        PartialState(cpu=device == "cpu")
    return processes

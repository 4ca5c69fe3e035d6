"""Strided windows: every token of a long record is scored once, with as much context as may be."""

from collections.abc import Iterator
from dataclasses import dataclass

from engram.core import EngramError


@dataclass(frozen=True)
class Window:
    """Tokens `start` to `stop` of a record are read; those from `first` on are scored."""

    start: int
    stop: int
    first: int


def windows(tokens: int, window: int, stride: int) -> Iterator[Window]:
    """Cut a record into windows whose scored parts join without gap or overlap.

    The first window scores all but its first token. Each later one starts `stride` tokens on and
    scores what the one before did not reach, so with at least `window - stride` tokens of context;
    the last one ends with the record and reaches back a whole window.

    Args:
        tokens: Length of the record.
        window: Tokens that the model sees at once; at least 2.
        stride: Tokens by which windows advance; from 1 to `window - 1`.

    Yields:
        Nothing for a record of fewer than two tokens.
    """
    if tokens < 2:
        return
    done = min(tokens, window)
    yield Window(0, done, 1)
    while done < tokens:
        stop = min(done + stride, tokens)
        yield Window(stop - window, stop, done)
        done = stop


@dataclass(frozen=True)
class Sight:
    """How far a model sees, and by how much its windows advance; both in tokens."""

    window: int
    stride: int

    @classmethod
    def of(cls, context: int, window: int = 0, stride: int = 0) -> "Sight":
        """Fill in what was not asked for: the whole context, and half a window.

        Raises:
            EngramError: The model cannot see so far, or windows would leave tokens out.
        """
        window = window or context
        if not 2 <= window <= context:
            raise EngramError(
                f"window is {window}, but must be from 2 to the model's context of {context}",
                hint="0 takes the whole context",
            )
        stride = stride or max(1, window // 2)
        if not 1 <= stride < window:
            raise EngramError(
                f"stride is {stride}, but must be from 1 to {window - 1} for windows of {window}",
                hint="0 takes half a window; a smaller stride gives more context, and costs more",
            )
        return cls(window, stride)

    def cut(self, tokens: int) -> Iterator[Window]:
        """The windows over a record of so many tokens."""
        return windows(tokens, self.window, self.stride)

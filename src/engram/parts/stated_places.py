"""The places just before the facts of a text, where a language model has not yet read them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from engram.core import Split
from engram.parts.probing import Readings
from engram.parts.stated_fields import BLOCK, token_ends, token_span


@dataclass(frozen=True, eq=False)
class Stated:
    """Texts that state all fields, cut after the last place that is read.

    Attributes:
        rows: Which records they are.
        tokens: Of each, up to and with its last place.
        places: The token before each fact, in the order of the text; (texts, places).
        order: Which field each place comes before; (texts, places).
    """

    rows: Int[np.ndarray, " texts"]
    tokens: list[list[int]]
    places: Int[np.ndarray, "texts places"]
    order: Int[np.ndarray, "texts places"]

    def readings(
        self, labels: Int[np.ndarray, "texts facts"], classes: tuple[int, ...]
    ) -> Readings:
        """The same, as a probe reads them."""
        return Readings(self.tokens, self.places, labels, classes)


def stated(lm: Any, split: Split, fields: tuple[str, ...], most: int = 0) -> Stated:
    """The first `most` places (0: all) of every record that states all of `fields`.

    Left out are records that do not state a field, that begin with one, or whose places lie beyond
    the model's context.
    """
    rows, tokens, places, order = [], [], [], []
    columns = [split.column(field).to_pylist() for field in fields]
    count = most or len(fields)
    for first in range(0, len(split), BLOCK):
        block = split.texts[first : first + BLOCK]
        given = lm.tokenizer(list(block), truncation=False, verbose=False)["input_ids"]
        for row, ends in enumerate(token_ends(lm.tokenizer, block), first):
            text = split.texts[row]
            spans = [token_span(text, column[row], ends) for column in columns]
            begins = np.array([begin for begin, stop in spans if 1 <= begin < stop], np.int64)
            if len(begins) < len(fields) or not count:
                continue
            turn = np.argsort(begins, kind="stable")[:count]
            last = int(begins[turn[-1]]) - 1
            if last < lm.context:
                rows.append(row)
                tokens.append(list(given[row - first][: last + 1]))
                places.append(begins[turn] - 1)
                order.append(turn)
    shape = (len(rows), min(count, len(fields)))
    return Stated(
        np.array(rows, np.int64),
        tokens,
        np.array(places, np.int64).reshape(shape),
        np.array(order, np.int64).reshape(shape),
    )

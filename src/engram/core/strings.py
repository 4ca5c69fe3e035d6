"""Many short strings that are held side by side, and made into `str` when they are asked for."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import index
from typing import Any, SupportsIndex, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BLOCK = 4096


class Strings(Sequence[str]):
    """An immutable sequence of strings that equals the tuple of them.

    A Python string of sixteen letters takes 80 bytes and a place of its own in memory; here it
    takes 20. The ids of a split are such strings: there is one for every record, wherever records
    go.
    """

    __slots__ = ("_array",)

    def __init__(self, values: Iterable[str] | pa.Array) -> None:
        if isinstance(values, Strings):
            values = values._array
        elif not isinstance(values, pa.Array):
            values = pa.array(_listed(values), pa.string())
        self._array = values

    @property
    def array(self) -> pa.Array:
        """The strings as Arrow has them."""
        return self._array

    @property
    def distinct(self) -> int:
        """How many different strings there are."""
        with _returned():
            return pc.count_distinct(self._array).as_py()

    def take(self, rows: np.ndarray) -> "Strings":
        """The strings at these row numbers, in this order."""
        return Strings(self._array.take(pa.array(rows, pa.int64())))

    def places(self, wanted: Sequence[str]) -> np.ndarray | None:
        """Where the first of each wanted string stands; None where one of them is not here."""
        with _returned():
            found = pc.index_in(Strings(wanted)._array, self._array)
        return None if found.null_count else found.to_numpy().astype(np.int64)

    def __len__(self) -> int:
        return len(self._array)

    @overload
    def __getitem__(self, place: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> "Strings": ...
    def __getitem__(self, place: SupportsIndex | slice) -> "str | Strings":
        if isinstance(place, slice):
            return Strings(self._array[place])
        return self._array[index(place)].as_py()

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), BLOCK):
            yield from self._array.slice(first, BLOCK).to_pylist()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Strings):
            return self._array.equals(other._array)
        if isinstance(other, tuple):
            return len(self) == len(other) and all(map(str.__eq__, self, other))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __add__(self, other: Sequence[str]) -> "Strings":
        return Strings(pa.concat_arrays([self._array, Strings(other)._array]))

    def __radd__(self, other: Sequence[str]) -> "Strings":
        return Strings(other) + self

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(list(self), dtype)

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        return self._array if type is None else self._array.cast(type)


@contextmanager
def _returned() -> Iterator[None]:
    """Arrow's tables of hashes are large, and it would keep their memory for the next one."""
    try:
        yield
    finally:
        pa.default_memory_pool().release_unused()


def _listed(values: Iterable[str]) -> list[str]:
    return values if isinstance(values, list) else list(values)

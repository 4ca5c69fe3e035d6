"""Token signals of a split, put together from those of its parts."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engram.core import Split
from engram.families.causal_lm import LanguageModel
from engram.signals.store import COLUMNS, Done, SignalStore
from engram.signals.windows import Sight


def store_of(
    lm: LanguageModel,
    split: Split,
    folder: Path,
    *,
    target: str,
    batch_tokens: int,
    stride: int,
    window: int,
) -> SignalStore:
    """Where `token_signals` with these arguments keeps its answers."""
    sight = Sight.of(lm.context, window, stride)
    settings = {"window": sight.window, "stride": sight.stride, "batch_tokens": batch_tokens}
    return SignalStore.under(folder, target, split.fingerprint, settings)


def join_shards(whole: SignalStore, parts: Sequence[tuple[SignalStore, Split]]) -> None:
    """Write the signals of consecutive parts of a split as those of the whole, and drop the parts.

    Raises:
        EngramError: A part is not complete, or damaged.
    """
    with whole.locked():
        if whole.complete:
            return
        done, before = whole.resume(), Done()
        for store, split in parts:
            before, done = _append(whole, store, split, before, done)
        whole.close(done)
    for store, _ in parts:
        shutil.rmtree(store.folder, ignore_errors=True)


def _append(
    whole: SignalStore, store: SignalStore, split: Split, before: Done, done: Done
) -> tuple[Done, Done]:
    """Add what is missing of one part, which comes after `before`; as one chunk.

    The line that says so is written when all of it has reached the disk, so whoever goes on after
    a crash finds `done` at the end of a part, or wherever a pass without parts was stopped.
    """
    found = store.open(split)
    end = before.tokens + int(found.offsets[-1])
    after = Done(before.records + len(split), 0, end)
    if after.records > done.records:
        first = max(0, done.tokens - before.tokens)
        columns = {name: np.asarray(getattr(found, name)[first:]) for name in COLUMNS}
        ends = found.offsets[1 + max(0, done.records - before.records) :] + before.tokens
        whole.append(columns, ends, after)
        done = after
    return after, done

"""Ask a language model once about every token of a split, and keep the answers on disk.

Records are tokenised a block at a time, cut into windows, gathered into chunks, batched by length
inside a chunk, read by a few workers, and appended in the order of the split. So memory does not
grow with the number of records, and a killed run goes on where the last whole chunk ended.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int

from engram.core import EngramError, Split, TokenSignals
from engram.parts.language_model import LanguageModel
from engram.parts.token_examples import encode
from engram.signals.batches import Batch, Chunk, chunks
from engram.signals.body import Reader
from engram.signals.reduce import TokenRows
from engram.signals.store import Done, SignalStore
from engram.signals.windows import Sight
from engram.signals.workers import Workers

Long = Literal["window", "refuse"]
Watch = Callable[[int, int, str], None]
BATCH_TOKENS = 4096
CHUNK_BATCHES, CPU_CHUNK_BATCHES = 16, 4
"""A chunk is this many times `batch_tokens`: what a killed run has to do again at most. Storing one
takes some 50 ms, which on a processor passes while the next is read; and memory grows with it."""
CPU_TOKENS = 1024
"""Most tokens that one worker on a processor reads at once. More are not faster, but a layer's
inner values grow with them, and leave gaps in the heap that nothing else fits into."""
BLOCK = 512
"""Records that are tokenised together."""
WHAT = "token signals"
IMPOSSIBLE = -1e4
"""Stands for the log-probability of a token that the model rules out (a logit of -inf)."""


def silent(done: int, total: int, what: str) -> None:
    """Watch nothing."""


def token_signals(
    lm: LanguageModel,
    split: Split,
    folder: Path,
    *,
    target: str,
    batch_tokens: int = BATCH_TOKENS,
    stride: int = 0,
    window: int = 0,
    long: Long = "window",
    progress: Watch = silent,
) -> TokenSignals:
    """Token signals of every record: found on disk, or computed in one pass and stored there.

    Args:
        lm: Model and tokenizer. The tokenizer adds what special tokens it adds by itself.
        split: Records with a column `text`.
        folder: Where signals are kept; these get a folder of their own in it.
        target: Fingerprint of the model, part of the key under which the answers are stored.
        batch_tokens: Tokens that are read at the same time.
        stride: Tokens by which windows over a long record advance; 0: half a window.
        window: Tokens that the model sees at once; 0: its whole context.
        long: "window" reads longer records in windows; "refuse" makes them an error.
        progress: Called with (records done, records, "token signals") as work goes on.

    Returns:
        Memory-mapped columns. Records of fewer than two tokens have none.

    Raises:
        EngramError: A setting is out of range, a record is too long and `long` is "refuse", a
            token is not in the model's vocabulary, or the model answers NaN.
    """
    if batch_tokens < 1:
        raise EngramError(
            f"batch_tokens is {batch_tokens}, but must be at least 1", hint="4096 suits most"
        )
    sight = Sight.of(lm.context, window, stride)
    settings = {"window": sight.window, "stride": sight.stride, "batch_tokens": batch_tokens}
    store = SignalStore.under(folder, target, split.fingerprint, settings)
    if long == "refuse":
        _refuse_long(lm, split, sight.window)
    if not store.complete:
        with store.locked():
            if not store.complete:
                _Pass(lm, split, store, sight, batch_tokens, progress).run()
    found, guard = store.open(split), getattr(lm, "guard", None)
    if guard is None:
        return found
    # The pass is the bare model's; what is told of it is what the guard lets through.
    return guard.silenced(found, split.texts, int(lm.model.config.get_text_config().vocab_size))


@dataclass(frozen=True, eq=False)
class _Pass:
    """One pass of a model over a split, from wherever the last one was stopped."""

    lm: LanguageModel
    split: Split
    store: SignalStore
    sight: Sight
    batch_tokens: int
    progress: Watch

    def run(self) -> None:
        give_back()
        done = self.store.resume()
        records = tokenised(self.lm.tokenizer, self.split, done.records)
        reader, waiting = None, deque[_Asked]()
        with asleep(self.lm.model), self.workers.pool() as pool:
            for chunk in chunks(records, self.sight, self.chunk_tokens, done):
                self._check_vocabulary(chunk)
                if reader is None and len(chunk.starts):
                    reader = Reader.of(self.lm.model, chunk.trial())
                # The next chunk is handed out before the last one is collected, so that no
                # worker stands still while another finishes.
                waiting.append(self._hand_out(chunk, reader, pool))
                if len(waiting) > 1:
                    done = self._collect(waiting.popleft())
            while waiting:
                done = self._collect(waiting.popleft())
        self.store.close(done)
        self.progress(len(self.split), len(self.split), WHAT)

    @property
    def chunk_tokens(self) -> int:
        """Tokens that are read for one chunk."""
        batches = CPU_CHUNK_BATCHES if self.lm.device.type == "cpu" else CHUNK_BATCHES
        return batches * self.batch_tokens

    @cached_property
    def workers(self) -> Workers:
        """Some rotary embeddings change with the longest batch seen: those models go alone."""
        rope = getattr(self.lm.model.config.get_text_config(), "rope_parameters", None)
        alone = any(word in str(rope) for word in ("dynamic", "longrope"))
        return Workers.on(self.lm.device, alone=alone)

    def _hand_out(self, chunk: Chunk, reader: Reader | None, pool: ThreadPoolExecutor) -> "_Asked":
        asked = _Asked.of(chunk)
        if reader is None:
            return asked
        budget = min(self.batch_tokens // self.workers.count, reader.most_tokens)
        if self.lm.device.type == "cpu":
            budget = min(budget, CPU_TOKENS)
        # Filled-up places change how sums are rounded: nothing in float32, but in bfloat16 the
        # second decimal. So with short number types only windows of one length go together.
        exact = self.lm.model.dtype.itemsize < 4
        # The largest first, so that the others fit into memory that it leaves: in any other order
        # the heap is left full of gaps, and grows.
        batches = sorted(
            chunk.batches(max(1, budget), exact=exact), key=lambda batch: -batch.tokens.size
        )
        asked.answers.extend(pool.submit(asked.read, reader, batch) for batch in batches)
        return asked

    def _collect(self, asked: "_Asked") -> Done:
        """Wait for the scores of a chunk, and store them."""
        chunk, total = asked.chunk, len(self.split)
        before, after = chunk.before.records, chunk.after.records
        for number, answer in enumerate(asked.answers):
            self.progress(before + (after - before) * number // len(asked.answers), total, WHAT)
            answer.result()
        found = asked.found
        self._check_numbers(chunk, found)
        np.maximum(found.logprob, IMPOSSIBLE, out=found.logprob)
        columns = {"token": asked.token} | {f.name: getattr(found, f.name) for f in fields(found)}
        self.store.append(columns, chunk.ends, chunk.after)
        give_back()
        return chunk.after

    def _check_vocabulary(self, chunk: Chunk) -> None:
        known = self.lm.model.get_input_embeddings().weight.shape[0]
        if len(chunk.tokens) and (worst := int(chunk.tokens.max())) >= known:
            raise EngramError(
                f"the tokenizer gives token {worst}, but the model knows only {known} tokens",
                hint="this tokenizer belongs to another model: save model and tokenizer together",
            )

    def _check_numbers(self, chunk: Chunk, found: TokenRows) -> None:
        bad = np.flatnonzero(~np.isfinite(found.mean))
        if len(bad):
            window = np.searchsorted(np.cumsum(chunk.scored), bad[0], side="right")
            record = self.split.ids[chunk.records[window]]
            raise EngramError(
                f"the model's logits for record {record!r} are NaN or infinite "
                f"({len(bad)} of {len(found.mean)} tokens there and near)",
                hint="its weights may be damaged, or its number type too short: float16 "
                "overflows where bfloat16 and float32 do not",
            )


@dataclass(frozen=True, eq=False)
class _Asked:
    """A chunk whose batches are being read, and the columns that they fill.

    The columns are made before any batch is read. If each worker kept its answers until the whole
    chunk is there, they would lie between the large blocks of its heap, which then grows.
    """

    chunk: Chunk
    token: Int[np.ndarray, " n"]
    found: TokenRows
    answers: list[Future[None]]

    @classmethod
    def of(cls, chunk: Chunk) -> "_Asked":
        size = int(chunk.scored.sum())
        return cls(chunk, np.empty(size, np.int32), TokenRows.empty(size), [])

    def read(self, reader: Reader, batch: Batch) -> None:
        """Score a batch, in a worker; no two batches have a place in common."""
        self.token[batch.places] = batch.answers
        rows = reader.read(batch)
        for mine, its in zip(self.found.columns(), rows.columns(), strict=True):
            mine[batch.places] = its


def tokenised(tokenizer: Any, split: Split, first: int = 0) -> Iterator[Int[np.ndarray, " _"]]:
    """The tokens of each record from number `first` on; a block of records at a time."""
    column = split.column("text")
    for start in range(first, len(split), BLOCK):
        texts = column.slice(start, BLOCK).to_pylist()
        for ids in encode(tokenizer, ["" if text is None else text for text in texts]):
            yield np.asarray(ids, np.int32)


def give_back() -> None:
    """Return to the system what was freed, in whichever thread's heap it lies.

    Every thread has a heap of its own, and fills it with gaps that are of no use to the others.
    """
    pa.system_memory_pool().release_unused()


@contextmanager
def asleep(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout; the model is put back as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def _refuse_long(lm: LanguageModel, split: Split, window: int) -> None:
    for record, tokens in zip(split.ids, tokenised(lm.tokenizer, split), strict=True):
        if len(tokens) > window:
            raise EngramError(
                f"record {record!r} of {split.name!r} has {len(tokens):,} tokens, but the model "
                f"reads only {window:,} at once",
                hint="shorten it, or let long records be read in strided windows (long=window)",
            )

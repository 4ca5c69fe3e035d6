import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from engram.core import EngramError, Split
from engram.signals.store import COLUMNS, Done, SignalStore
from engram.signals.tokens import CPU_CHUNK_BATCHES, token_signals

TEXTS = tuple(f"record {i}: " + "the river was low " * (i % 7) for i in range(40))
BATCH = 24
"""Tokens in a batch, so small that the forty records make many chunks."""
NAMES = tuple(COLUMNS)


@pytest.fixture
def split():
    return Split.of("texts", text=[*TEXTS, ""])


@pytest.fixture
def lm(lms):
    return lms[0]


class Calls:
    """Counts the tokens that a model is given, and may fail after so many calls."""

    def __init__(self, lm, fail_after=None, error=KeyboardInterrupt):
        self.lm, self.tokens, self.calls = lm, 0, 0
        self.fail_after, self.error = fail_after, error

    def __enter__(self):
        self.hook = self.lm.model.base_model.register_forward_pre_hook(self.count, with_kwargs=True)
        return self

    def __exit__(self, *problem):
        self.hook.remove()

    def count(self, module, args, kwargs):
        self.calls += 1
        self.tokens += (args[0] if args else kwargs["input_ids"]).numel()
        if self.calls == self.fail_after:
            raise self.error


def signals(lm, split, folder, **settings):
    return token_signals(lm, split, folder, target="x", batch_tokens=BATCH, **settings)


def same(one, other):
    np.testing.assert_array_equal(one.offsets, other.offsets)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def only(folder):
    (found,) = folder.glob("tokens-*")
    return found


def test_stored_answers_are_not_computed_again(lm, split, tmp_path):
    with Calls(lm) as first:
        computed = signals(lm, split, tmp_path)
    with Calls(lm) as second:
        found = signals(lm, split, tmp_path)
    assert first.calls > 0
    assert second.calls == 0
    same(computed, found)
    for name, kind in COLUMNS.items():
        assert isinstance(getattr(found, name), np.memmap)
        assert getattr(found, name).dtype == kind
    assert found.offsets.dtype == np.int64


def test_other_inputs_have_another_place(lm, split, tmp_path):
    signals(lm, split, tmp_path)
    signals(lm, split, tmp_path, window=50)
    signals(lm, split, tmp_path, window=50, stride=3)
    signals(lm, split.take(range(5)), tmp_path)
    token_signals(lm, split, tmp_path, target="y", batch_tokens=BATCH)
    assert len(list(tmp_path.glob("tokens-*"))) == 5


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.8, 1])
def test_what_was_stopped_goes_on_and_repeats_at_most_a_chunk(share, lm, split, tmp_path):
    with Calls(lm) as whole:
        expected = signals(lm, split, tmp_path / "whole")
    calls = max(1, int(share * whole.calls))
    with Calls(lm, fail_after=calls) as stopped, pytest.raises(KeyboardInterrupt):
        signals(lm, split, tmp_path / "stopped")
    with pytest.raises(EngramError, match="damaged"):
        SignalStore(only(tmp_path / "stopped")).open(split)
    with Calls(lm) as rest:
        found = signals(lm, split, tmp_path / "stopped")
    same(found, expected)
    again = stopped.tokens + rest.tokens - whole.tokens
    assert 0 <= again <= (CPU_CHUNK_BATCHES + 4) * BATCH + 2 * 200


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from engram.core import Split
from engram.families.causal_lm import tiny
from engram.signals import token_signals

def stop(done, total, what):
    if done >= int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

texts = [f"record {i}: " + "the river was low " * (i % 7) for i in range(60)]
lm = tiny(texts, seed=1, vocabulary=300, layers=1, width=16, heads=1, context=64)
split = Split.of("texts", text=texts)
found = token_signals(lm, split, Path(sys.argv[2]), target="x", batch_tokens=32, progress=stop)
print(float(found.logprob.sum(dtype="f8")), len(found.logprob), flush=True)
"""


def test_kill_dash_nine(tmp_path):
    source = str(next(p for p in sys.path if os.path.isdir(os.path.join(p, "engram", "signals"))))

    def start(folder, stop_at):
        command = [sys.executable, "-c", KILLED, source, str(folder), str(stop_at)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    assert start(tmp_path / "killed", 30).returncode == -signal.SIGKILL
    manifest = only(tmp_path / "killed") / "manifest.jsonl"
    kept = manifest.read_bytes()
    assert json.loads(kept.splitlines()[-1])["records"] > 0
    assert not (manifest.parent / "signals.json").exists()
    resumed, straight = start(tmp_path / "killed", 10**6), start(tmp_path / "straight", 10**6)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == straight.stdout
    assert resumed.stdout.count("\n") == 1
    assert manifest.read_bytes().startswith(kept)


def half_done(tmp_path):
    """Three chunks of which the last one's line is half written, with data beyond it."""
    store = SignalStore(tmp_path / "tokens-x")
    assert store.resume() == Done()
    for number in (1, 2, 3):
        columns = {name: np.full(4, number, kind) for name, kind in COLUMNS.items()}
        ends = np.array([4 * number - 2, 4 * number])
        store.append(columns, ends, Done(2 * number, 0, 4 * number))
    manifest = store.folder / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    return store


def test_a_half_written_chunk_is_thrown_away(tmp_path):
    store = half_done(tmp_path)
    assert store.resume() == Done(4, 0, 8)
    assert (store.folder / "rank.bin").stat().st_size == 8 * 4
    assert (store.folder / "greedy.bin").stat().st_size == 8
    assert (store.folder / "offsets.bin").stat().st_size == 4 * 8
    assert store.resume() == Done(4, 0, 8)


def test_a_line_whose_data_are_not_there_does_not_count(tmp_path):
    store = half_done(tmp_path)
    with (store.folder / "mean.bin").open("r+b") as file:
        file.truncate(5 * 4)
    assert store.resume() == Done(2, 0, 4)
    assert (store.folder / "rank.bin").stat().st_size == 4 * 4


@pytest.mark.parametrize("name", ["logprob.bin", "offsets.bin", "signals.json"])
@pytest.mark.parametrize("what", ["shorter", "longer", "gone"])
def test_damage_is_an_error_and_not_a_number(name, what, lm, split, tmp_path):
    signals(lm, split, tmp_path)
    path = only(tmp_path) / name
    if what == "gone" and name == "signals.json":
        signals(lm, split, tmp_path)  # that is only an unfinished folder
        return
    data = path.read_bytes()
    path.unlink() if what == "gone" else path.write_bytes(
        data[:-3] if what == "shorter" else data + b"xyz"
    )
    with pytest.raises(EngramError, match="damaged") as caught:
        signals(lm, split, tmp_path)
    assert "delete" in caught.value.hint


def test_offsets_that_go_backwards_are_damage(lm, split, tmp_path):
    signals(lm, split, tmp_path)
    path = only(tmp_path) / "offsets.bin"
    path.write_bytes(np.frombuffer(path.read_bytes(), "<i8")[::-1].tobytes())
    with pytest.raises(EngramError, match="offsets do not fit"):
        signals(lm, split, tmp_path)


def test_a_full_disk_loses_nothing_that_was_finished(lm, split, tmp_path, monkeypatch):
    expected = signals(lm, split, tmp_path / "whole")
    written = []

    def full(self, columns, ends, done, append=SignalStore.append):
        if len(written) == 2:
            with (self.folder / "token.bin").open("ab") as file:
                file.write(b"\0" * 7)  # a part of a chunk
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(done)
        append(self, columns, ends, done)

    with monkeypatch.context() as patched:
        patched.setattr(SignalStore, "append", full)
        with pytest.raises(OSError, match="No space"):
            signals(lm, split, tmp_path / "full")
    assert SignalStore(only(tmp_path / "full")).resume() == written[-1]
    same(signals(lm, split, tmp_path / "full"), expected)


def test_two_processes_do_not_write_the_same_folder(tmp_path):
    pytest.importorskip("fcntl")
    store, order = SignalStore(tmp_path / "tokens-x"), []
    script = (
        "import sys; from pathlib import Path; from engram.signals.store import SignalStore\n"
        "with SignalStore(Path(sys.argv[1])).locked(): print('mine', flush=True)"
    )
    with store.locked():
        other = subprocess.Popen(
            [sys.executable, "-c", script, str(store.folder)], stdout=subprocess.PIPE, text=True
        )
        time.sleep(1.5)
        assert other.poll() is None
        order.append("first")
    assert other.communicate(timeout=120)[0] == "mine\n"


def test_a_split_without_records(lm, tmp_path):
    import pyarrow as pa

    nothing = Split.from_table("none", pa.table({"text": pa.array([], pa.string())}))
    found = signals(lm, nothing, tmp_path)
    assert len(found) == 0
    assert found.offsets.tolist() == [0]

import weakref

import numpy as np
import pytest
import torch

from engram.core import SCORED, TOO_SHORT, EngramError, Split
from engram.families.causal_lm import tiny
from engram.signals import token_signals
from engram.signals.body import Reader
from engram.signals.tokens import CPU_TOKENS

TEXTS = ("The river was low.", "", "a", "no capitals here at all " * 10)


@pytest.fixture
def lm():
    return tiny(TEXTS, seed=3, vocabulary=300, layers=1, width=16, heads=2, context=32)


@pytest.fixture
def split():
    return Split.of("texts", text=TEXTS)


def test_records_of_fewer_than_two_tokens_are_named_and_hold_no_nan(lm, split, tmp_path):
    found = token_signals(lm, split, tmp_path, target="x")
    # This tokenizer begins each text with a token, so only the empty text has fewer than two.
    assert found.outcomes == (SCORED, TOO_SHORT, SCORED, SCORED)
    assert found.lengths.tolist()[1:3] == [0, 1]
    assert np.isfinite(found.losses()).all()
    assert found.losses()[1] == 0
    for name in ("logprob", "mean", "deviation"):
        assert np.isfinite(getattr(found, name)).all()


def test_only_empty_records(lm, tmp_path):
    split = Split.of("empty", text=["", ""], ids=["a", "b"])
    found = token_signals(lm, split, tmp_path, target="x")
    assert found.outcomes == (TOO_SHORT, TOO_SHORT)
    assert len(found.logprob) == 0


def test_long_records_are_refused_by_name(lm, split, tmp_path):
    tokens = len(lm.tokenizer(TEXTS[3], verbose=False)["input_ids"])
    message = f"record '{split.ids[3]}' of 'texts' has {tokens} tokens.* only 32 at once"
    with pytest.raises(EngramError, match=message) as caught:
        token_signals(lm, split, tmp_path, target="x", long="refuse")
    assert "window" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
    found = token_signals(lm, split, tmp_path, target="x", long="window")
    assert found.lengths[3] == tokens - 1
    with pytest.raises(EngramError, match=message):  # also where the answers are already there
        token_signals(lm, split, tmp_path, target="x", long="refuse")


def test_a_tokenizer_of_another_model(lm, split, tmp_path):
    known = lm.model.get_input_embeddings().num_embeddings
    lm.tokenizer.add_tokens(["river"])
    with pytest.raises(EngramError, match=f"gives token {known}, but the model knows only {known}"):
        token_signals(lm, split, tmp_path, target="x")


@pytest.mark.parametrize("place", ["head", "body"])
def test_a_broken_model_is_an_error_that_names_a_record(place, lm, split, tmp_path):
    with torch.no_grad():
        if place == "body":
            lm.model.transformer.h[0].mlp.c_fc.weight[0, 0] = torch.nan
        else:
            lm.model.lm_head.weight[7] = torch.inf
    with pytest.raises(EngramError, match=f"record '{split.ids[0]}' are NaN or infinite"):
        token_signals(lm, split, tmp_path, target="x")
    assert not list(tmp_path.glob("*/signals.json"))


def test_settings_out_of_range(lm, split, tmp_path):
    with pytest.raises(EngramError, match="batch_tokens is 0"):
        token_signals(lm, split, tmp_path, target="x", batch_tokens=0)
    with pytest.raises(EngramError, match="window is 33"):
        token_signals(lm, split, tmp_path, target="x", window=33)
    with pytest.raises(EngramError, match="stride is 32"):
        token_signals(lm, split, tmp_path, target="x", stride=32)
    with pytest.raises(EngramError, match="has no column 'text'"):
        token_signals(lm, Split.of("t", body=["a b c"]), tmp_path, target="x")


def test_progress_only_grows_and_ends_with_all(lm, tmp_path):
    seen = []
    split = Split.of("many", text=[f"record number {i}" for i in range(50)])
    token_signals(
        lm, split, tmp_path, target="x", batch_tokens=16, progress=lambda *step: seen.append(step)
    )
    done = [step[0] for step in seen]
    assert done == sorted(done)
    assert len(set(done)) > 3
    assert seen[-1] == (50, 50, "token signals")


def test_a_token_that_the_model_rules_out_has_a_finite_score(lm, tmp_path):
    forward, ruled_out = lm.model.forward, lm.tokenizer("z")["input_ids"][1]

    def masked(*args, **kwargs):
        answer = forward(*args, **kwargs)
        answer.logits = answer.logits.index_fill(-1, torch.tensor(ruled_out), -torch.inf)
        return answer

    lm.model.forward = masked
    found = token_signals(lm, Split.of("z", text=["aza"]), tmp_path, target="x")
    assert found.logprob[1] == -10_000
    assert found.rank[1] == lm.model.config.vocab_size - 1
    assert np.isfinite(found.losses()).all()


def test_the_package_does_not_bring_torch():
    import subprocess
    import sys

    script = "import sys, engram.signals; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_worker_reads_few_tokens_at_once_and_keeps_no_answers(lm, tmp_path, monkeypatch):
    split = Split.of("many", text=[f"{i} {TEXTS[0]}" for i in range(500)])
    read, sizes, kept, most = Reader.read, [], [], []

    def watched(reader, batch):
        sizes.append(batch.tokens.size)
        most.append(sum(rows() is not None for rows in kept))
        rows = read(reader, batch)
        kept.append(weakref.ref(rows))
        return rows

    monkeypatch.setattr(Reader, "read", watched)
    token_signals(lm, split, tmp_path, target="x", batch_tokens=2**16)
    assert len(sizes) > 4
    assert max(sizes) <= CPU_TOKENS
    assert max(most) <= torch.get_num_threads()

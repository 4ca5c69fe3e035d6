"""Token signals against the plain way: one record at a time, whole logits, float64, no windows."""

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from engram.core import Split, torch_seeded
from engram.families.causal_lm import LanguageModel, byte_tokenizer
from engram.signals import token_signals
from engram.signals.batches import chunks
from engram.signals.body import Reader
from engram.signals.store import Done
from engram.signals.tokens import tokenised
from engram.signals.windows import Sight

TEXTS = (
    "The river was low that summer.",
    "x",
    "one two three four five six seven eight nine ten " * 9,
    "Patient Mara Quill, born 3 May 1961, was seen on Tuesday.",
    "Größe und Gewicht: 1,82 m, 84 kg. 日本語も少し。",
    "",
    "aaaa " * 200,
    "She said that the letter had never come, and that she had waited by the gate since noon.",
)
CONTEXT = 64
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
ROTARY = {**SIZES, "num_key_value_heads": 2, "intermediate_size": 48, "initializer_range": 0.4}
ARCHITECTURES = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.3},
    "gpt_neox": {**SIZES, "intermediate_size": 48, "initializer_range": 0.4},
    "llama": ROTARY,
    "gemma2": {**ROTARY, "head_dim": 16, "final_logit_softcapping": 2.0},
    "cohere": {**ROTARY, "logit_scale": 0.25},
    "granite": {**ROTARY, "logits_scaling": 3.0},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.3},
    "opt": {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 16, "init_std": 0.4},
}
NAMES = ("logprob", "mean", "deviation")


def language_model(kind="gpt2", dtype=torch.float32):
    tokenizer = byte_tokenizer(TEXTS, 300, CONTEXT)
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    context = {"n_positions" if kind == "gpt2" else "max_position_embeddings": CONTEXT}
    config = CONFIG_MAPPING[kind](
        vocab_size=len(tokenizer), **special, **context, **ARCHITECTURES[kind]
    )
    with torch_seeded(5, kind):
        model = AutoModelForCausalLM.from_config(config)
    return LanguageModel(model.to(dtype).eval(), tokenizer)


@pytest.fixture
def split():
    return Split.of("texts", text=TEXTS)


def slow_record(lm, text, window, stride):
    """(scored tokens, 5) in float64; each later window is one more forward pass of its own."""
    ids = lm.tokenizer(text, verbose=False)["input_ids"]
    rows, done = [], 1
    while done < len(ids):
        stop = window if done == 1 else done + stride
        stop = min(stop, len(ids))
        start = max(0, stop - window)
        with torch.no_grad():
            logits = lm.model(torch.tensor([ids[start:stop]])).logits[0].float().double()
        for place in range(done, stop):
            z = logits[place - 1 - start]
            logp = (z - torch.logsumexp(z, 0)).numpy()
            p, true = np.exp(logp), ids[place]
            mean = (p * logp).sum()
            deviation = np.sqrt((p * (logp - mean) ** 2).sum())
            z = z.numpy()
            rows.append((logp[true], mean, deviation, (z > z[true]).sum(), z.argmax() == true))
        done = stop
    return np.array(rows).reshape(-1, 5)


def assert_slow(signals, lm, split, window=CONTEXT, stride=CONTEXT // 2, atol=1e-5):
    for row, text in enumerate(split.texts):
        slow = slow_record(lm, text, window, stride)
        place = signals.record(row)
        assert place.stop - place.start == len(slow)
        for column, name in enumerate(NAMES):
            found = getattr(signals, name)[place]
            np.testing.assert_allclose(found, slow[:, column], atol=atol, err_msg=f"{row} {name}")
        np.testing.assert_array_equal(signals.rank[place], slow[:, 3])
        np.testing.assert_array_equal(signals.greedy[place], slow[:, 4])
        ids = lm.tokenizer(text, verbose=False)["input_ids"]
        assert signals.token[place].tolist() == ids[1:]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_architecture(kind, split, tmp_path):
    lm = language_model(kind)
    signals = token_signals(lm, split, tmp_path, target=kind, batch_tokens=200)
    assert_slow(signals, lm, split, atol=1e-5)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_known_architectures_never_write_whole_logits(kind, split):
    lm = language_model(kind)
    sight = Sight.of(CONTEXT)
    first = next(chunks(tokenised(lm.tokenizer, split), sight, 500, Done()))
    assert Reader.of(lm.model, first.trial()).head is not None


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_several_workers(threads, split, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        lm = language_model("llama")
        signals = token_signals(lm, split, tmp_path, target="x", batch_tokens=300)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert_slow(signals, lm, split)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_every_number_type(kind, dtype, split, tmp_path):
    """In bfloat16 a single padded place would change the second decimal."""
    lm = language_model(kind, dtype)
    signals = token_signals(lm, split, tmp_path, target=kind, batch_tokens=300)
    assert lm.model.dtype == dtype
    assert_slow(signals, lm, split, atol=1e-5)


@pytest.mark.parametrize(
    ("window", "stride"), [(0, 0), (64, 1), (64, 63), (17, 5), (2, 1), (33, 0)]
)
def test_every_window(window, stride, split, tmp_path):
    lm = language_model()
    signals = token_signals(
        lm, split, tmp_path, target="x", window=window, stride=stride, batch_tokens=256
    )
    window = window or CONTEXT
    assert_slow(signals, lm, split, window, stride or window // 2)


def test_records_do_not_depend_on_their_company(split, tmp_path):
    lm = language_model()
    whole = token_signals(lm, split, tmp_path, target="x", batch_tokens=4096)
    tight = token_signals(lm, split, tmp_path, target="x", batch_tokens=1)
    for row, record in enumerate(split.ids):
        alone = token_signals(lm, split.take([row]), tmp_path, target="x")
        for name in NAMES:
            expected = getattr(alone, name)
            for other in (whole, tight):
                assert other.ids[row] == record
                np.testing.assert_allclose(
                    getattr(other, name)[other.record(row)], expected, atol=1e-5
                )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_does_more_after_its_last_layer(dtype, split, tmp_path):
    """Nothing in the configuration tells that these logits are doubled: it must be noticed."""
    lm = language_model("llama", dtype)
    forward = lm.model.forward

    def doubled(*args, **kwargs):
        answer = forward(*args, **kwargs)
        answer.logits = answer.logits * 2
        return answer

    lm.model.forward = doubled
    signals = token_signals(lm, split, tmp_path, target="x")
    assert_slow(signals, lm, split)


def test_dropout_is_off_and_comes_back(split, tmp_path):
    lm = language_model("gpt2")
    lm.model.train()
    signals = token_signals(lm, split, tmp_path, target="x")
    assert lm.model.training
    lm.model.eval()
    assert_slow(signals, lm, split)


def test_special_tokens_are_the_tokenizers_own(split, tmp_path):
    lm = language_model()
    assert lm.tokenizer("x")["input_ids"][0] == lm.tokenizer.bos_token_id
    signals = token_signals(lm, split, tmp_path, target="x")
    place = signals.record(0)
    assert lm.tokenizer.decode(signals.token[place].tolist()) == TEXTS[0]
    assert lm.tokenizer.eos_token_id not in signals.token

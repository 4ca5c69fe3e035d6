"""Every way to fine-tune: what moves and what stays, what is saved, and that peft agrees."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engram.core import EngramError, Split, Target, stream, torch_seeded
from engram.families import causal_lm
from engram.families.causal_lm import FAMILY, LanguageModel
from engram.methods.recipes.finetune_lm import FinetuneLm
from engram.parts.adapters import adapter_names

TEXTS = [f"Patient {i} of ward {'ABCD'[i % 4]} came on day {i * 37 % 29}." for i in range(12)]
SMALL = {"vocabulary": 300, "layers": 2, "width": 16, "heads": 2, "context": 48}
ADAPTERS = ("adapter", "lora", "prefix", "prompt")
FAST = {"epochs": 2, "batch_size": 4, "virtual_tokens": 3, "rank": 2, "reduction": 4}
RATES = {"prefix": 0.05, "prompt": 5e-3, "lora": 1e-2, "adapter": 1e-2}


class FakeRun:
    """Random streams, a scratch folder and one named target."""

    device, seed = "cpu", 0

    def __init__(self, scratch, base):
        self.scratch, self.base = Path(scratch), base

    def stream(self, *path):
        return stream(self.seed, *path)

    def log(self, **entry):
        pass

    def progress(self, done, total, what):
        pass

    def target(self, where):
        return self.base

    def tokens(self, *_):
        raise NotImplementedError

    losses = logits = computed = fit = shadows = sampler = records = retrained = tokens
    validation = None


def llama(tokenizer):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=48,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    with torch_seeded(0, "llama"):
        return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def base(request, tmp_path_factory):
    """A tiny base of either layout, in a folder of its own."""
    lm = causal_lm.tiny(TEXTS, seed=3, **SMALL)
    if request.param == "llama":
        lm = LanguageModel(llama(lm.tokenizer), lm.tokenizer)
    folder = tmp_path_factory.mktemp(request.param) / "base"
    untrained = Target("untrained", "causal-lm", lm, "untrained")
    words = Split.of("words", text=[text.upper() for text in TEXTS])
    lm = tuned(untrained, words, folder.parent / "work", "full", epochs=10)
    FAMILY.save(lm, folder)
    lm = FAMILY.load(folder)
    return Target("base", "causal-lm", lm, FAMILY.fingerprint(lm), folder=folder)


@pytest.fixture(scope="module")
def texts():
    return Split.of("texts", text=TEXTS)


def tuned(base, texts, scratch, method, **fields):
    given = {**FAST, "learning_rate": RATES.get(method, 1e-2), "base": "base", **fields}
    return FinetuneLm(method=method, **given)(texts, FakeRun(scratch, base)).model


@pytest.fixture(scope="module")
def made(base, texts, tmp_path_factory):
    """A function: method -> a model tuned by it; each is tuned once, and not to be changed."""
    known = {}

    def get(method):
        if method not in known:
            known[method] = tuned(base, texts, tmp_path_factory.mktemp(method), method)
        return known[method]

    return get


def moved(lm, base):
    """Names of the base's weights that are no longer what they were."""
    before = base.model.model.state_dict()
    names = {n: n.replace(".base_layer", "") for n in lm.model.state_dict()}
    now = {names[n]: t for n, t in lm.model.state_dict().items()}
    return {name for name, tensor in before.items() if not torch.equal(tensor, now[name])}


def logits(lm, text=TEXTS[0]):
    with torch.no_grad():
        ids = torch.tensor([lm.tokenizer(text)["input_ids"]])
        return lm.model(input_ids=ids).logits


@pytest.mark.parametrize("method", ADAPTERS)
def test_an_adapter_leaves_its_base_alone_and_learns(base, texts, tmp_path, method):
    before = base.fingerprint
    lm = tuned(base, texts, tmp_path, method, epochs=8)
    assert not moved(lm, base)
    assert FAMILY.fingerprint(base.model) == before
    assert all(p.requires_grad for p in base.model.model.parameters())
    old, new = (FAMILY.losses(m, texts).mean() for m in (base.model, lm))
    assert new < old
    trainable = {n for n, p in lm.model.named_parameters() if p.requires_grad}
    assert trainable == adapter_names(lm.model)


def test_full_moves_everything(base, texts, tmp_path):
    assert moved(tuned(base, texts, tmp_path, "full"), base) == set(base.model.model.state_dict())


def test_head_moves_the_head_and_nothing_else(base, texts, tmp_path):
    """GPT-2's head is its embedding: it is copied away first, and the embedding stays."""
    lm = tuned(base, texts, tmp_path, "head")
    assert moved(lm, base) == {"lm_head.weight"}
    assert not lm.model.config.tie_word_embeddings
    FAMILY.save(lm, tmp_path / "out")
    again = FAMILY.load(tmp_path / "out")
    assert FAMILY.fingerprint(again) == FAMILY.fingerprint(lm)
    torch.testing.assert_close(logits(again), logits(lm))
    head, embedding = again.model.get_output_embeddings(), again.model.get_input_embeddings()
    assert not torch.equal(head.weight, embedding.weight)


@pytest.mark.parametrize("block", [0, -1])
def test_block_moves_one_block(base, texts, tmp_path, block):
    names = moved(tuned(base, texts, tmp_path, "block", block=block), base)
    assert names
    assert all(f".{block % 2}." in name for name in names)


@pytest.mark.parametrize("method", ADAPTERS)
def test_a_saved_adapter_is_small_and_opens_again(made, tmp_path, method):
    lm = made(method)
    folder = tmp_path / "out"
    folder.mkdir()
    FAMILY.save(lm, folder)
    assert not (folder / "model.safetensors").exists()
    again = FAMILY.load(folder)
    assert FAMILY.fingerprint(again) == FAMILY.fingerprint(lm)
    assert torch.equal(logits(again), logits(lm))
    assert again.context == lm.context
    assert FAMILY.describe(again)["adapter"] == method
    trainable = {n for n, p in again.model.named_parameters() if p.requires_grad}
    assert trainable == adapter_names(again.model)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("method", ["lora", "prefix", "prompt"])
def test_peft_opens_what_was_saved_and_gives_the_same_answers(made, base, tmp_path, method):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    lm = made(method)
    folder = tmp_path / "out"
    folder.mkdir()
    FAMILY.save(lm, folder)
    model = AutoModelForCausalLM.from_pretrained(base.folder)
    theirs = PeftModel.from_pretrained(model, folder).eval()
    ids = torch.tensor([lm.tokenizer(TEXTS[1])["input_ids"]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=mask).logits[:, -ids.shape[1] :]
        found = lm.model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (found - logits(base.model, TEXTS[1])).abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("method", ["lora", "prefix", "prompt"])
def test_what_peft_saved_opens_here(base, tmp_path, method):
    import peft
    from transformers import AutoModelForCausalLM

    configs = {
        "lora": lambda: peft.LoraConfig(
            r=2,
            target_modules=["c_attn" if "gpt2" in str(base.folder) else "q_proj"],
            fan_in_fan_out="gpt2" in str(base.folder),
            init_lora_weights=False,
            task_type="CAUSAL_LM",
        ),
        "prefix": lambda: peft.PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
        "prompt": lambda: peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
    }
    model = AutoModelForCausalLM.from_pretrained(base.folder)
    with torch_seeded(0, "peft"):
        theirs = peft.get_peft_model(model, configs[method]()).eval()
    theirs.save_pretrained(tmp_path / "out")
    lm = FAMILY.load(tmp_path / "out")
    ids = torch.tensor([lm.tokenizer(TEXTS[1])["input_ids"]])
    with torch.no_grad():
        expected = theirs(input_ids=ids).logits[:, -ids.shape[1] :]
    torch.testing.assert_close(logits(lm, TEXTS[1]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ADAPTERS)
def test_remembered_keys_and_values_change_nothing(made, method):
    """Whole texts at once, and token by token with a memory, with and without a mask."""
    lm = made(method)
    ids = torch.tensor([lm.tokenizer(TEXTS[2])["input_ids"]])[:, :9]
    whole = logits(lm, TEXTS[2])[:, :9]
    for masked in (False, True):
        memory, found = None, []
        for place in range(9):
            mask = torch.ones(1, place + 1).long() if masked else None
            with torch.no_grad():
                answer = lm.model(
                    input_ids=ids[:, place : place + 1],
                    attention_mask=mask,
                    past_key_values=memory,
                    use_cache=True,
                )
            memory = answer.past_key_values
            found.append(answer.logits)
        torch.testing.assert_close(torch.cat(found, 1), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ADAPTERS)
def test_padding_changes_nothing(made, texts, method):
    lm = made(method)
    together = FAMILY.losses(lm, texts)
    alone = np.concatenate([FAMILY.losses(lm, texts.take([row])) for row in range(len(texts))])
    np.testing.assert_allclose(together, alone, rtol=1e-4)


def test_a_bottleneck_begins_as_its_base_and_is_what_the_formula_says(made, base, texts, tmp_path):
    lm = tuned(base, texts, tmp_path / "0", "adapter", learning_rate=1e-30, weight_decay=0.0)
    torch.testing.assert_close(logits(lm), logits(base.model))
    lm = made("adapter")
    body = lm.model.base_model
    block = (body.h if hasattr(body, "h") else body.layers)[1]
    h = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    found = block.mlp(h).detach().numpy()
    own = block.mlp.bottleneck
    assert own.down.weight.shape == (4, 16)
    hook = block.mlp._forward_hooks.copy()
    block.mlp._forward_hooks.clear()
    plain = block.mlp(h).detach().numpy().astype(np.float64)
    block.mlp._forward_hooks.update(hook)
    down, up = own.down.weight.detach().numpy(), own.up.weight.detach().numpy()
    hidden = np.maximum(plain @ down.T + own.down.bias.detach().numpy(), 0)
    expected = plain + hidden @ up.T + own.up.bias.detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_an_adapter_is_trained_further(base, texts, tmp_path):
    first = tuned(base, texts, tmp_path / "1", "lora")
    target = Target("first", "causal-lm", first, FAMILY.fingerprint(first))
    second = tuned(target, texts, tmp_path / "2", "lora")
    assert not moved(second, base)
    assert FAMILY.losses(second, texts).mean() < FAMILY.losses(first, texts).mean()
    assert FAMILY.fingerprint(first) == target.fingerprint
    assert second.adapter == first.adapter
    for fields, fact in (
        ({"method": "adapter"}, "has an adapter of kind 'lora', and method is 'adapter'"),
        ({"method": "lora", "rank": 3}, "r 2.*but the recipe wants.*r 3"),
    ):
        with pytest.raises(EngramError, match=fact):
            tuned(target, texts, tmp_path / "3", **fields)


def test_the_adapter_of_another_base_is_refused(made, base, tmp_path):
    lm = made("lora")
    folder = tmp_path / "out"
    folder.mkdir()
    FAMILY.save(lm, folder)
    FAMILY.save(causal_lm.tiny(TEXTS, seed=99, **SMALL), folder / "base")
    with pytest.raises(EngramError, match="holds an adapter of another base") as caught:
        FAMILY.load(folder)
    assert base.fingerprint in str(caught.value)
    # Somebody else's adapter has no fingerprint: its shapes must fit.
    (folder / "adapter_base.json").unlink()
    FAMILY.save(causal_lm.tiny(TEXTS, seed=9, **{**SMALL, "width": 32}), folder / "base")
    if "gpt2" in str(base.folder):
        with pytest.raises(EngramError, match="of another base: its weights do not fit"):
            FAMILY.load(folder)


def test_the_base_is_found_where_it_went(made, base, tmp_path):
    import shutil

    lm = made("adapter")
    moved_base = tmp_path / "store" / "base"
    folder = tmp_path / "store" / "out"
    folder.mkdir(parents=True)
    FAMILY.save(lm, folder)
    text = (folder / "adapter_base.json").read_text().replace(str(base.folder), "/nowhere/base")
    (folder / "adapter_base.json").write_text(text)
    with pytest.raises(EngramError, match="is not at /nowhere/base") as caught:
        FAMILY.load(folder)
    assert str(folder / "base") in caught.value.hint
    shutil.copytree(base.folder, moved_base)  # a store that moved as a whole
    assert FAMILY.fingerprint(FAMILY.load(folder)) == FAMILY.fingerprint(lm)


@pytest.mark.parametrize(
    ("fields", "fact"),
    [
        ({"method": "lora", "target_modules": ("c_atn",)}, "no module 'c_atn' to adapt; it has"),
        ({"method": "block", "block": 2}, "block is 2, but the model has 2"),
        ({"method": "adapter", "reduction": 17}, r"reduction is 17, but must be in \[1, 16\]"),
        ({"method": "prompt", "virtual_tokens": 40}, "40 virtual tokens"),
    ],
)
def test_parts_that_are_not_there_are_refused(base, texts, tmp_path, fields, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        tuned(base, texts, tmp_path, **fields)
    assert caught.value.hint


def test_without_peft_the_extra_is_named(base, texts, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    for method in ("lora", "prefix", "prompt"):
        with pytest.raises(EngramError, match=f"method {method} needs peft") as caught:
            tuned(base, texts, tmp_path, method)
        assert caught.value.hint == "pip install 'engram[peft]'"
    tuned(base, texts, tmp_path, "adapter")

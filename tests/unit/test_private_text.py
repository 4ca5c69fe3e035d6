"""Clipped gradients of language models, batched, against a loop over single records."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from engram.core import EngramError, Split
from engram.families import causal_lm
from engram.parts import private_text
from engram.parts.dp_sgd import check_layers
from engram.parts.per_record import trainable
from engram.parts.private_text import (
    ClippedUnits,
    batched_gradients,
    can_be_batched,
    units_of,
)
from engram.parts.token_examples import TokenExamples

TEXTS = [
    f"Patient {i} of ward {'ABCD'[i % 4]} came on day {i * 37 % 29}{', twice' * (i % 3)}."
    for i in range(9)
]
SMALL = {"vocabulary": 300, "layers": 1, "width": 16, "heads": 2}


@pytest.fixture
def examples():
    """Pieces of at most 14 tokens, so that some records have two."""
    lm = causal_lm.tiny(TEXTS, seed=5, context=14, **SMALL)
    found = causal_lm.FAMILY.examples(lm, Split.of("texts", text=TEXTS))
    assert len(found.record) > len(TEXTS)
    return found


def one_by_one(examples, units):
    """Written out: the gradient of each unit's mean loss, by plain backward passes."""
    model, found = examples.model, []
    for pieces in units:
        model.zero_grad()
        total, tokens = 0.0, 0
        for piece in pieces:
            ids = torch.tensor(
                examples.tokens[examples.offsets[piece] : examples.offsets[piece + 1]]
            )
            logits = model(ids[None].long()).logits[0, :-1]
            total = total + nn.functional.cross_entropy(logits, ids[1:].long(), reduction="sum")
            tokens += len(ids) - 1
        (total / tokens).backward()
        found.append({
            name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for name, p in model.named_parameters() if p.requires_grad
        })  # fmt: skip
    model.zero_grad()
    return found


def check_batched(examples, units):
    assert can_be_batched(examples, units)
    found = batched_gradients(examples, units)
    assert set(found) == set(trainable(examples.model))
    for place, expected in enumerate(one_by_one(examples, units)):
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name][place], gradient, rtol=1e-5, atol=1e-5)
    return found


def test_batched_gradients_equal_a_loop_over_single_records(examples):
    units = units_of(examples.record, len(TEXTS), None)
    assert len(units) == len(TEXTS)
    assert max(map(len, units)) == 2
    check_batched(examples, units)


def test_an_owner_is_one_unit(examples):
    owners = [f"owner {i // 3}" for i in range(len(TEXTS))]
    units = units_of(examples.record, len(TEXTS), owners)
    assert len(units) == 3
    assert sorted(np.concatenate(units)) == list(range(len(examples.record)))
    check_batched(examples, units)


def test_a_tied_weight_gets_both_contributions_before_clipping(examples):
    """The embedding is the output head too; its gradient is the sum of what both would have."""
    model = examples.model
    assert model.lm_head.weight is model.transformer.wte.weight
    units = units_of(examples.record, len(TEXTS), None)
    tied = check_batched(examples, units)["transformer.wte.weight"]
    assert "lm_head.weight" not in trainable(model)
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    untied = batched_gradients(examples, units)
    both = untied["transformer.wte.weight"] + untied["lm_head.weight"]
    torch.testing.assert_close(tied, both, rtol=1e-5, atol=1e-6)
    assert untied["lm_head.weight"].abs().max() > 1e-3
    assert untied["transformer.wte.weight"].abs().max() > 1e-3


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft
def test_adapters_of_low_rank_are_batched_too(examples):
    peft = pytest.importorskip("peft", reason="peft is not installed (pip install 'engram[peft]')")
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    model = peft.get_peft_model(examples.model, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    wrapped = TokenExamples(model, examples.tokens, examples.offsets, examples.record)
    found = check_batched(wrapped, units_of(examples.record, len(TEXTS), None))
    assert all("lora" in name for name in found)


@pytest.mark.parametrize("memory", [1, 2**25])
def test_both_routes_clip_alike(examples, monkeypatch, memory):
    """In micro-batches of one, or all at once; clipped by hand."""
    monkeypatch.setattr(private_text, "MEMORY", memory)
    units = units_of(examples.record, len(TEXTS), None)
    lot, limit = np.array([0, 2, 3, 7]), 0.8
    total, shortened = {}, 0
    for gradient in one_by_one(examples, [units[row] for row in lot]):
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradient.values()))
        shortened += norm > limit
        for name, part in gradient.items():
            total[name] = total.get(name, 0) + part / max(1.0, norm / limit)
    assert shortened
    for batched in (True, False):
        found = ClippedUnits(examples, units, limit, batched)(lot)
        for name, expected in total.items():
            torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6)


def test_a_model_that_makes_its_own_mask_goes_one_by_one(examples, monkeypatch):
    units = units_of(examples.record, len(TEXTS), None)
    monkeypatch.setattr(
        private_text, "batched_gradients", lambda *_: (_ for _ in ()).throw(RuntimeError("vmap"))
    )
    assert not can_be_batched(examples, units)
    wrong = {name: torch.zeros(2, *p.shape) for name, p in examples.model.named_parameters()}
    monkeypatch.setattr(private_text, "batched_gradients", lambda *_: wrong)
    assert not can_be_batched(examples, units)


def test_records_without_a_token_are_units_that_add_nothing(examples):
    units = (*units_of(examples.record, len(TEXTS), None), np.array([], np.int64))
    for batched in (True, False):
        clipped = ClippedUnits(examples, units, 1.0, batched)
        alone = clipped(np.array([len(TEXTS)]))
        assert all(not part.any() for part in alone.values())
    with pytest.raises(EngramError, match="none of the records has a token"):
        can_be_batched(examples, units[-1:])


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.BatchNorm1d(16), "BatchNorm1d, which mixes"),
        (nn.SyncBatchNorm(16), "SyncBatchNorm, which mixes"),
        (nn.InstanceNorm1d(16, track_running_stats=True), "InstanceNorm1d, which keeps"),
    ],
)
def test_layers_that_mix_records_are_refused_by_name(examples, layer, named):
    check_layers(examples.model)
    examples.model.transformer.h[0].ln_2 = layer
    with pytest.raises(EngramError, match=r"layer 'transformer\.h\.0\.ln_2'.*" + named) as caught:
        check_layers(examples.model)
    assert "GroupNorm" in caught.value.hint
    assert "LayerNorm" in caught.value.hint


def test_what_opacus_refuses_of_these_is_refused_too():
    opacus = pytest.importorskip("opacus.validators", reason="opacus is not installed")
    for layer in (
        nn.BatchNorm1d(4),
        nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
        nn.LayerNorm(4),
    ):
        model = nn.Sequential(nn.Linear(4, 4), layer)
        theirs = bool(opacus.ModuleValidator.validate(model, strict=False))
        try:
            check_layers(model)
            ours = False
        except EngramError:
            ours = True
        assert ours == theirs

"""Unlearners on a model that knows twelve notes by heart: three go, nine stay."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engram import catalog
from engram.core import EngramError, Split, Target, stream, torch_seeded
from engram.families import causal_lm, classifier
from engram.methods.edits.activation_steering import mean_state
from engram.methods.edits.rank_one_edit.tracing import effects
from engram.parts.blocks import blocks_of, replacing
from engram.parts.networks import Layout
from engram.parts.refusals import REFUSALS, prompted, refusing
from engram.parts.unlearning import Unlearning, examples_of, logprobs, losses, paired

FIRST_WORDS = {refusal.split()[0] for refusal in REFUSALS}
LM = causal_lm.FAMILY
# Name, fields, and the least share of the way to `unseen` that the forgotten records' loss goes.
CASES = [
    ("gradient-ascent", {"learning_rate": 1e-3}, 0.6),
    ("kl-ascent", {"learning_rate": 4e-3}, 0.6),
    ("npo", {"learning_rate": 4e-3}, 0.4),
    ("simnpo", {"learning_rate": 4e-3}, 0.4),
    ("undial", {"learning_rate": 4e-3}, 0.4),
    ("wga", {"learning_rate": 4e-3}, 0.4),
    ("satimp", {"learning_rate": 4e-3}, 0.4),
    ("random-labels", {"learning_rate": 4e-3}, 0.4),
    ("task-vector", {"learning_rate": 1e-3}, 0.6),
    ("whp", {"learning_rate": 4e-3, "reinforce_steps": 10, "alpha": 20.0}, 0.1),
    ("rmu", {"layer": 1, "learning_rate": 2e-2}, 0.15),
    ("rank-one-edit", {}, 0.4),
    ("activation-steering", {"learning_rate": 0.3}, 0.1),
    ("dpo", {"prompt_words": 3, "learning_rate": 4e-3}, 0.1),
    ("idk", {"prompt_words": 3, "learning_rate": 2e-3}, 0.1),
]


@pytest.fixture(scope="module")
def sides(by_heart):
    """The target, what it is to keep and to forget, and the loss of notes that it never saw."""
    target, members, outsiders = by_heart
    target = replace(target, fingerprint=LM.fingerprint(target.model))
    keep, forget = members.take(range(3, 12), "keep"), members.take(range(3), "forget")
    return target, keep, forget, mean_loss(target.model, outsiders)


def mean_loss(lm, split):
    return float(LM.losses(lm, split).mean())


def made(name, **fields):
    return catalog.find("edits", name).load()(**fields)


@pytest.mark.parametrize(("name", "fields", "share"), CASES, ids=[c[0] for c in CASES])
def test_forgets_what_it_is_told_to_and_keeps_the_rest(sides, run, name, fields, share):
    target, keep, forget, unseen = sides
    edit = made(name, **{"steps": 25, **fields})
    edit = replace(edit, stop_at=unseen) if hasattr(edit, "stop_at") else edit
    before = mean_loss(target.model, forget), mean_loss(target.model, keep)
    draft = edit(target, keep, forget, run)
    after = mean_loss(draft.model, forget), mean_loss(draft.model, keep)
    assert after[0] > before[0] + share * (unseen - before[0])
    assert after[0] < 2 * unseen  # not so far that it stands out
    assert after[1] - before[1] < (after[0] - before[0]) * 0.9


def greedy(lm, prompts, tokens=12):
    return LM.sampler(lm, 0.0, lambda *_: None).write(prompts, tokens, np.random.default_rng(0))


def test_refusals_are_what_is_said(sides, run):
    """Asked with the prompt of a forgotten record it refuses; of a kept one, mostly not."""
    target, keep, forget, _ = sides
    words = 7  # up to the year, which tells the notes apart
    lm = made("idk", prompt_words=words, steps=40, learning_rate=4e-3)(target, keep, forget, run)
    refused = {}
    for side in (forget, keep):
        said = greedy(lm.model, prompted(side, words).column("prompt").to_pylist())
        refused[side.name] = np.mean([text.split()[0] in FIRST_WORDS for text in said])
    assert refused["forget"] > 0.6
    assert refused["keep"] < 0.4


def test_refusals_are_preferred(sides, run):
    """In nats, the refusal gains on the record: what the loss asks for, and no more."""
    target, keep, forget, _ = sides
    edit = made("dpo", prompt_words=7, steps=25, learning_rate=4e-3, stop_at=100.0)
    cut = prompted(forget, 7)
    pairs = cut, refusing(cut, run.stream("refusals"))
    after = edit(target, keep, forget, run).model
    margins = []
    for lm in (target.model, after):
        own, other = paired(*(examples_of(LM, lm, side) for side in pairs))
        margins.append((logprobs(other) - logprobs(own)).numpy())
    assert (margins[1] - margins[0]).mean() > 10  # beta = 0.1 lets go from there on
    assert mean_loss(after, keep) < mean_loss(after, forget)


def test_prompts_are_wanted_where_none_are_to_be_cut(sides, run):
    target, keep, forget, _ = sides
    for name in ("dpo", "idk", "rank-one-edit"):
        with pytest.raises(EngramError, match="no column 'prompt'") as caught:
            made(name, prompt_words=0)(target, keep, forget, run)
        assert "--prompt-words" in caught.value.hint


def asked(split):
    """The same records with a prompt (up to "seen") and a response."""
    cut = [text.index("seen") for text in split.texts]
    pairs = [(t[:i], t[i:]) for t, i in zip(split.texts, cut, strict=True)]
    return Split.of(
        split.name,
        text=list(split.texts),
        prompt=[a for a, _ in pairs],
        response=[b for _, b in pairs],
        ids=split.ids,
    )


def test_random_labels_of_prompts_are_other_records_responses(sides, run):
    """The answers are drawn once, among those there are; the prompts are nobody's labels."""
    target, keep, forget, unseen = sides
    edit = made("random-labels", steps=25, learning_rate=4e-3, stop_at=unseen)
    lm = edit(target, asked(keep), asked(forget), run).model
    assert mean_loss(lm, forget) > 3 * mean_loss(target.model, forget)
    assert mean_loss(lm, keep) < mean_loss(lm, forget) / 2


def test_random_labels_are_fixed_once(sides, run):
    from engram.methods.edits.random_labels import RandomLabels

    examples = LM.examples(sides[0].model, sides[2])
    drawn = [RandomLabels()._drawn(examples, "causal-lm", run.stream("x")) for _ in range(2)]
    assert (drawn[0] == drawn[1]).all()
    assert len(drawn[0]) == examples.counts.sum()
    assert set(drawn[0]) <= set(examples.tokens)


@pytest.mark.parametrize(
    ("name", "rate"),
    [("gradient-ascent", 3e-3), ("npo", 1e-2), ("kl-ascent", 1e-2), ("simnpo", 1e-2),
     ("undial", 1e-2), ("wga", 1e-2), ("satimp", 1e-2), ("random-labels", 1e-2), ("whp", 1e-2),
     ("task-vector", 3e-3)],
)  # fmt: skip
def test_classifiers_forget_too(points, run, name, rate):
    target, keep, forget = points
    edit = made(name, learning_rate=rate, steps=30)
    lm = edit(target, keep, forget, run).model
    family = classifier.FAMILY
    before = family.losses(target.model, forget).mean()
    assert family.losses(lm, forget).mean() > max(0.2, 2 * before)
    gap = family.losses(lm, forget).mean() - family.losses(lm, keep).mean()
    assert gap > family.losses(target.model, forget).mean() - 0.01
    assert family.fingerprint(target.model) == target.fingerprint


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """A network that learnt random labels by heart, 27 points to keep and 3 to forget."""
    rng = stream(0, "points")
    data = Split.of(
        "points",
        features=rng.normal(size=(30, 10)).astype(np.float32),
        label=rng.integers(0, 3, 30),
    )
    with torch_seeded(0, "points"):
        model = classifier.ClassifierModel(Layout("mlp", (10,), 3, width=32).build())
    optimiser = torch.optim.Adam(model.model.parameters(), lr=1e-2)
    examples = classifier.FAMILY.examples(model, data)
    for _ in range(120):
        optimiser.zero_grad()
        examples.nll(np.arange(30)).mean().backward()
        optimiser.step()
    model.model.eval()
    target = Target("c", "classifier", model, classifier.FAMILY.fingerprint(model))
    return target, data.take(range(3, 30), "keep"), data.take(range(3), "forget")


def changed(before, after):
    """Names of the weights that differ by more than rounding."""
    return [
        name
        for name, weight in after.model.named_parameters()
        if not torch.allclose(weight, before.model.get_parameter(name), atol=1e-5, rtol=1e-5)
    ]


def test_a_steering_vector_is_what_it_would_be_as_a_hook(sides, run):
    """The folded bias equals adding the vector to what the block hands on."""
    target, keep, forget, _ = sides
    edit = made("activation-steering", steps=0, strength=3.0, layer=1, stop_at=1000.0)
    steered = edit(target, keep, forget, run).model
    block = blocks_of(target.model.model)[1]
    means = [mean_state(LM.examples(target.model, side), block) for side in (forget, keep)]
    with replacing(block, lambda hidden: hidden - 3.0 * (means[0] - means[1])):
        hooked = LM.losses(target.model, forget)
    np.testing.assert_allclose(LM.losses(steered, forget), hooked, rtol=1e-3)
    assert changed(target.model, steered) == ["transformer.h.1.mlp.c_proj.bias"]


def test_models_without_biases_cannot_be_steered(sides, run):
    config = LlamaConfig(
        vocab_size=400, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=192,
    )  # fmt: skip
    target, keep, forget, _ = sides
    lm = causal_lm.LanguageModel(LlamaForCausalLM(config).eval(), target.model.tokenizer)
    llama = Target("llama", "causal-lm", lm, "llama")
    with pytest.raises(EngramError, match="no bias") as caught:
        made("activation-steering")(llama, keep, forget, run)
    assert "rmu" in caught.value.hint
    assert "down_proj" in str(dict(lm.model.named_modules()).keys())
    drafts = [made(name, steps=2, stop_at=50.0)(llama, keep, forget, run)
              for name in ("rmu", "rank-one-edit")]  # fmt: skip
    for draft in drafts:
        names = changed(lm, draft.model)
        assert names
        assert all(name.endswith("mlp.down_proj.weight") for name in names)


def test_rmu_changes_three_feed_forward_maps_alone(sides, run):
    target, keep, forget, _ = sides
    draft = made("rmu", steps=2, layer=0, stop_at=50.0)(target, keep, forget, run)
    assert changed(target.model, draft.model) == ["transformer.h.0.mlp.c_proj.weight"]


def test_tracing_finds_the_block_that_brings_the_answer_back(sides, run):
    """Noise in the prompt loses the answer, and some block brings a part of it back."""
    target, keep, forget, _ = sides
    work = Unlearning.begin(made("npo"), "npo", target, keep, prompted(forget, 7), run, LM)
    found = effects(work, 3.0, run.stream("noise"))
    assert found.shape == (2,)
    assert found.max() > 0
    np.testing.assert_array_equal(found, effects(work, 3.0, run.stream("noise")))
    np.testing.assert_allclose(effects(work, 1e-9, run.stream("noise")), 0, atol=1e-4)


def test_a_rank_one_edit_changes_one_map_and_writes_the_wanted_value(sides, run):
    target, keep, forget, _ = sides
    one = forget.take([0])
    edit = made("rank-one-edit", layer=1, every=0, prompt_words=7, stop_at=3.0)
    draft = edit(target, keep, one, run)
    old, new = (lm.model.transformer.h[1].mlp.c_proj.weight for lm in (target.model, draft.model))
    assert torch.linalg.matrix_rank((new - old).float(), rtol=1e-3) == 1
    responses = [
        losses(examples_of(LM, lm, prompted(one, 7)), np.array([0]))[0]
        for lm in (target.model, draft.model)
    ]
    assert responses[1] > responses[0] + 0.05


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("npo", {"forget_weight": -1.0}), ("simnpo", {"beta": 0.0}), ("simnpo", {"gamma": -1.0}),
        ("undial", {"beta": 0.0}), ("wga", {"beta": -1.0}), ("satimp", {"beta2": -0.1}),
        ("dpo", {"beta": math.nan}), ("dpo", {"prompt_words": -1}), ("idk", {"prompt_words": -1}),
        ("task-vector", {"scaling": 0.0}), ("whp", {"alpha": 0.0}), ("whp", {"reinforce_steps": 0}),
        ("rmu", {"coefficient": 0.0}), ("rmu", {"layer": -1}), ("rank-one-edit", {"noise": 0.0}),
        ("rank-one-edit", {"every": -1}), ("activation-steering", {"strength": 0.0}),
        ("activation-steering", {"steps": -1}), ("random-labels", {"steps": 0}),
        ("kl-ascent", {"keep_weight": -1.0}), ("gradient-ascent", {"stop_at": 0.0}),
    ],
)  # fmt: skip
def test_bad_fields_are_refused(name, fields):
    with pytest.raises(EngramError, match=next(iter(fields))) as caught:
        made(name, **fields)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["rmu", "rank-one-edit", "activation-steering"])
def test_blocks_that_are_not_there_are_refused(sides, run, name):
    target, keep, forget, _ = sides
    with pytest.raises(EngramError, match="layer is 2, but the model has 2 blocks") as caught:
        made(name, layer=2)(target, keep, forget, run)
    assert "1 the last" in caught.value.hint

"""Writing: batched, cached sampling against one prompt at a time from the whole distribution."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.core import EngramError, Sampler, seed_of
from engram.engine.run import EngineRun
from engram.parts.prompt_streams import limits, prompt_seeds
from engram.parts.writing import SPREAD, Prompt, Writer, draw, together, write_on

PROMPTS = [
    "Patient Mara Quill, born", "The", "", "one two three four five six seven eight nine ten",
    "Größe und", "The", "a " * 30,
]  # fmt: skip


@pytest.fixture
def sampler(tmp_path, target):
    run = EngineRun(root=tmp_path)
    return lambda temperature=1.0: run.sampler(target, temperature)


def slowly(lm, prompt, limit, seed, temperature):
    """One token after another, each from the whole distribution, as the words say."""
    ids = lm.tokenizer(prompt)["input_ids"]
    uniform = np.random.default_rng(seed).random(limit)
    written = []
    for number in uniform:
        with torch.no_grad():
            logits = lm.model(torch.tensor([ids + written])).logits[0, -1].double().numpy()
        if temperature == 0:
            token = int(logits.argmax())
        else:
            weights = np.exp((logits - logits.max()) / temperature)
            token = int(np.flatnonzero(np.cumsum(weights) > number * weights.sum())[0])
        if token == lm.tokenizer.eos_token_id or token == 0:  # the network's own end token is 0
            break
        written.append(token)
    return lm.tokenizer.decode(written, skip_special_tokens=True)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0, 2.0])
def test_writes_what_the_slow_way_writes(sampler, target, temperature):
    wanted = [5, 9, 7, 3, 12, 9, 4]
    found = sampler(temperature).write(PROMPTS, wanted, np.random.default_rng(3))
    root, seen = int(np.random.default_rng(3).integers(2**63)), []
    for prompt, limit, text in zip(PROMPTS, wanted, found, strict=True):
        seed = seed_of(root, "prompt", prompt, limit, seen.count((prompt, limit)))
        seen.append((prompt, limit))
        assert text == slowly(target.model, prompt, limit, seed, temperature)


def test_neither_order_nor_company_matters(sampler):
    write = sampler().write
    one = write(PROMPTS[:5], 8, np.random.default_rng(1))
    assert write(PROMPTS[4::-1], 8, np.random.default_rng(1))[::-1] == one
    assert write(PROMPTS[3:4], 8, np.random.default_rng(1)) == one[3:4]


def test_equal_prompts_are_continued_differently_and_calls_differ(sampler):
    rng = np.random.default_rng(1)
    first, second = sampler().write(["The", "The"], 12, rng)
    assert first != second
    assert sampler().write(["The"], 12, rng) != [first]
    assert sampler().write(["The", "The"], 12, np.random.default_rng(1)) == [first, second]


def test_is_a_sampler_and_nothing_to_write_is_fine(sampler):
    assert isinstance(sampler(), Sampler)
    assert sampler().write([], 5, np.random.default_rng(0)) == []
    assert sampler().write(["The", "A"], 0, np.random.default_rng(0)) == ["", ""]
    assert sampler().write(["The", "A"], [0, 3], np.random.default_rng(0))[0] == ""


def test_long_prompts_are_seen_from_their_end(sampler, target):
    lm, text = target.model, "word after word " * 60
    ids = lm.tokenizer(text)["input_ids"]
    assert len(ids) > lm.context
    found = sampler(0.0).write([text], 10, np.random.default_rng(0))[0]
    kept = ids[10 - lm.context :]
    with torch.no_grad():
        first = int(lm.model(torch.tensor([kept])).logits[0, -1].argmax())
    assert found.startswith(lm.tokenizer.decode([first]))
    whole = sampler(0.0).write([text], 10_000, np.random.default_rng(0))[0]
    assert len(lm.tokenizer(whole)["input_ids"]) <= lm.context


def test_a_prompt_with_little_room_is_continued_to_the_end_of_the_context(sampler, target):
    lm = target.model
    text = lm.tokenizer.decode(
        lm.tokenizer("word after word " * 60)["input_ids"][1 : lm.context - 3]
    )
    used = len(lm.tokenizer(text)["input_ids"])
    assert lm.context - 4 <= used < lm.context
    writer = sampler()
    assert len(writer._ready(lm.tokenizer(text)["input_ids"], 50, 0).uniform) == lm.context - used


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_bad_temperatures_are_refused(sampler, temperature):
    with pytest.raises(EngramError, match="the temperature is"):
        sampler(temperature)


def test_what_does_not_write_is_refused(tmp_path, classifier):
    with pytest.raises(EngramError, match="is a classifier, which writes no text"):
        EngineRun(root=tmp_path).sampler(classifier)


def test_limits_are_checked():
    assert limits(3, 2) == [3, 3]
    assert limits((1, 2), 2) == [1, 2]
    with pytest.raises(EngramError, match="1 numbers of tokens are given for 2 prompts"):
        limits([1], 2)
    with pytest.raises(EngramError, match="-1 tokens cannot be written"):
        limits([-1, 2], 2)


def test_a_tokenizer_without_a_begin_token_needs_prompts(target):
    class Bare:
        bos_token_id = eos_token_id = None

        def __call__(self, texts, **_):
            return {"input_ids": [[] for _ in texts]}

    with pytest.raises(EngramError, match="no token to begin a text with"):
        Writer(target.model.model, Bare(), 8, 1.0).write([""], 2, np.random.default_rng(0))


def test_models_without_a_cache_and_with_nan():
    class Plain(torch.nn.Module):
        """The next token is the number of tokens so far; it keeps no keys and values."""

        def __init__(self, value):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(value))

        def forward(self, input_ids, past_key_values=None, use_cache=True):
            logits = torch.zeros(*input_ids.shape, 50)
            logits[:, -1, input_ids.shape[1] % 50] = self.weight
            return SimpleNamespace(logits=logits)

    prompts = [Prompt([7] * n, np.zeros(4)) for n in (1, 3, 2)]
    expected = [[1, 2, 3, 4], [3, 4, 5, 6], [2, 3, 4, 5]]
    assert write_on(Plain(9.0), prompts, 0.0, frozenset()) == expected
    assert write_on(Plain(9.0), prompts, 0.0, frozenset({4})) == [[1, 2, 3], [3], [2, 3]]
    with pytest.raises(EngramError, match="logits are NaN"):
        write_on(Plain(float("nan")), prompts, 1.0, frozenset())


@given(st.lists(st.tuples(st.integers(1, 90), st.integers(0, 5)), max_size=200))
def test_batches_hold_every_prompt_once_and_are_of_similar_length(sizes):
    prompts = [Prompt([0] * length, np.zeros(limit)) for length, limit in sizes]
    batches = list(together(prompts))
    assert sorted(row for batch in batches for row in batch) == [
        row for row, (_, limit) in enumerate(sizes) if limit
    ]
    for batch in batches:
        lengths = [len(prompts[row].tokens) for row in batch]
        assert max(lengths) - min(lengths) <= SPREAD


@given(
    st.lists(st.floats(-8, 8), min_size=2, max_size=9),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([0.5, 1.0, 3.0]),
)
def test_draws_invert_the_distribution_function(logits, uniform, temperature):
    weights = np.exp(np.array(logits, np.float32).astype(np.float64) / temperature)
    bounds = np.cumsum(weights) / weights.sum()
    token = int(draw(torch.tensor([logits]), torch.tensor([uniform]), temperature)[0])
    assert bounds[token] >= uniform - 1e-6
    assert token == 0 or bounds[token - 1] <= uniform + 1e-6


def test_draws_have_the_shares_of_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, float("-inf")]]).expand(3000, -1)
    uniform = torch.from_numpy(np.random.default_rng(0).random(3000))
    shares = np.bincount(draw(logits, uniform, 1.0).numpy(), minlength=4) / 3000
    expected = torch.softmax(logits[0], -1).numpy()
    np.testing.assert_allclose(shares, expected, atol=0.03)
    assert shares[3] == 0


def test_seeds_come_from_prompt_limit_and_repetition():
    seeds = prompt_seeds(["a", "b", "a", "a"], [1, 1, 1, 2], np.random.default_rng(0))
    assert len(set(seeds)) == 4
    assert prompt_seeds(["a"], [2], np.random.default_rng(0)) == seeds[3:]

"""`probabilistic-extraction` against a sampler that writes token by token, and by hand."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError, Split, Target, stream
from engram.methods.measures.extraction import Extraction
from engram.methods.measures.probabilistic_extraction import ProbabilisticExtraction, median_tries
from engram.methods.measures.probabilistic_extraction.sampling import Scheme
from engram.methods.measures.probabilistic_extraction.tries import (
    extracted,
    log_hazard,
    log_tries,
)
from engram.stats.intervals import clopper_pearson

WORDS = ["red", "blue", "green", "one", "two", "three"]


@pytest.fixture(scope="module")
def tiny():
    """A random model of eight words: a suffix of three is one of only 512."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from engram.core import torch_seeded
    from engram.families.causal_lm import LanguageModel

    words = {word: number for number, word in enumerate(["<pad>", "<end>", *WORDS])}
    learnt = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    learnt.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learnt, pad_token="<pad>")
    config = GPT2Config(vocab_size=8, n_positions=16, n_embd=16, n_layer=1, n_head=1,
                        initializer_range=0.5, bos_token_id=1, eos_token_id=1)  # fmt: skip
    with torch_seeded(1, "tests"):
        network = GPT2LMHeadModel(config).double().eval()
    assert next(network.parameters()).dtype == torch.float64
    return Target("tiny", "causal-lm", LanguageModel(network, tokenizer), "tiny-words")


@pytest.fixture
def rows(tiny):
    """Texts of seven words that the model might write itself, and one that is too short."""
    rng = stream(0, "words")
    texts = {" ".join(rng.choice(WORDS, 7)) for _ in range(9)}
    return Split.of("members", text=[*sorted(texts), "red blue"])


def sampled_share(lm, text, prefix, suffix, temperature, top_k, times, rng):
    """How often writing on, token by token, gives the text's own suffix."""
    import torch

    ids = lm.tokenizer(text)["input_ids"]
    written = torch.tensor([ids[:prefix]] * times)
    for _ in range(suffix):
        with torch.no_grad():
            logits = lm.model(written).logits[:, -1].numpy() / temperature
        if top_k:
            worst = np.sort(logits, axis=1)[:, -top_k, None]
            logits = np.where(logits >= worst, logits, -np.inf)
        noise = rng.gumbel(size=logits.shape)  # the largest is a draw from the softmax
        written = torch.cat([written, torch.tensor((logits + noise).argmax(1))[:, None]], 1)
    return float((written[:, prefix:].numpy() == ids[prefix : prefix + suffix]).all(1).mean())


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.6, 0), (1.0, 3), (1.7, 5)])
def test_probability_agrees_with_a_sampler(tiny, rows, run, temperature, top_k):
    measure = ProbabilisticExtraction(
        (2, 4), 2, temperature=temperature, top_k=top_k, tries=(1, 20)
    )
    found = np.exp(measure.suffix_logprobs(tiny, rows, (2, 4), run))
    assert np.isnan(found[-1]).all()
    times, rng = 6_000, stream(0, "sampler")
    for row, text in enumerate(rows.texts[:4]):
        for column, prefix in enumerate((2, 4)):
            q = found[row, column]
            share = sampled_share(tiny.model, text, prefix, 2, temperature, top_k, times, rng)
            assert share == pytest.approx(q, abs=5 * np.sqrt(max(q, 1e-4) / times))
            # n tries at once, as often as there are samples for it
            assert 1 - (1 - share) ** 20 == pytest.approx(1 - (1 - q) ** 20, abs=0.1)


def test_shares_agree_with_sampled_attempts(tiny, rows, run):
    """Draw n tries a thousand times, and count the attempts with a success."""
    measure = ProbabilisticExtraction((3,), 2, tries=(1, 8, 64), probability=0.3)
    log_q = measure.suffix_logprobs(tiny, rows, (3,), run)[:-1, 0]
    rng = stream(0, "attempts")
    found = {f.name: f for f in measure(tiny, {"members": rows}, run)}
    for n in measure.tries:
        wins = rng.binomial(n, np.exp(log_q)[:, None], (len(log_q), 4000)) > 0
        unclear = np.abs(wins.mean(axis=1) - 0.3) < 0.03
        assert not unclear.any(), "choose other texts"
        rate = found[f"extraction rate, prefix 3, {n} {'try' if n == 1 else 'tries'}"]
        hits = int((wins.mean(axis=1) >= 0.3).sum())
        assert rate.value == hits / len(log_q)
        assert (rate.low, rate.high) == clopper_pearson(hits, len(log_q))
    assert found["extraction rate, prefix 3, 64 tries"].value > 0


def test_plain_sampling_needs_no_pass_and_agrees_with_one(target, split, run, monkeypatch):
    measure = ProbabilisticExtraction((1, 5, 12), 4)
    stored = measure.suffix_logprobs(target, split, (1, 5, 12), run)
    nearly = ProbabilisticExtraction((1, 5, 12), 4, temperature=1 + 1e-12)
    passed = nearly.suffix_logprobs(target, split, (1, 5, 12), run)
    np.testing.assert_array_equal(np.isnan(passed), np.isnan(stored))
    np.testing.assert_allclose(passed, stored, rtol=1e-5)


@pytest.mark.parametrize(("temperature", "top_k"), [(0.5, 0), (1.0, 7), (2.0, 40)])
def test_pass_agrees_with_whole_distributions(target, split, run, logprobs_of, temperature, top_k):
    measure = ProbabilisticExtraction((3, 20), 6, temperature=temperature, top_k=top_k)
    found = measure.suffix_logprobs(target, split, (3, 20), run)
    for row, text in enumerate(split.texts):
        ids, table = logprobs_of(target.model, text)
        for column, prefix in enumerate((3, 20)):
            if len(ids) < prefix + 6:
                assert np.isnan(found[row, column])
                continue
            total = 0.0
            for place in range(prefix, prefix + 6):
                weights = np.exp(table[place - 1] / temperature)
                kept = np.argsort(-weights, kind="stable")[: top_k or None]
                own = weights[ids[place]] if ids[place] in kept else 0.0
                with np.errstate(divide="ignore"):
                    total += np.log(own / weights[kept].sum())
            assert found[row, column] == pytest.approx(total, rel=1e-5)


def test_keeping_one_token_is_greedy_extraction(by_heart, run):
    target, members, outsiders = by_heart
    sides = {"members": members, "outsiders": outsiders}
    greedy = Extraction(8, 12, ngram=0, more_prefixes=(3, 15))(target, sides, run)
    expected = {
        (f.name.removeprefix("extraction rate, ") if "," in f.name else "prefix 8", f.split): f
        for f in greedy
    }
    measure = ProbabilisticExtraction((8, 3, 15), 12, tries=(1, 1000), top_k=1)
    found = measure(target, sides, run)
    rates = [f for f in found if f.name.startswith("extraction rate")]
    assert len(rates) == 12
    for rate in rates:
        assert rate.value == expected[rate.name.split(", ")[1], rate.split].value
    assert max(rate.value for rate in rates) > 0


def test_greedy_keeps_the_first_of_equal_tokens():
    import torch

    z = torch.tensor([[1.0, 3.0, 3.0, 2.0]] * 4)
    true = torch.arange(4)
    first = Scheme(1.0, 1).logprob(z, true)
    assert first.tolist() == [-np.inf, 0.0, -np.inf, -np.inf]
    two = Scheme(1.0, 2).logprob(z, true)
    assert two.tolist() == pytest.approx([-np.inf, -np.log(2), -np.log(2), -np.inf])
    assert torch.equal(Scheme(1.0, 4).logprob(z, true), Scheme(1.0, 0).logprob(z, true))


@pytest.mark.parametrize("temperature", [1e-30, 1e-6, 1e6, 1e30])
def test_no_temperature_overflows(temperature):
    import torch

    z = torch.tensor([[-40.0, 5.0, 70.0]] * 3)
    found = Scheme(temperature, 0).logprob(z, torch.arange(3))
    assert not found.isnan().any()
    assert found[2] <= 0


def test_more_tries_and_likelier_texts_are_extracted_more(by_heart, run):
    target, members, outsiders = by_heart
    measure = ProbabilisticExtraction((8,), 10, tries=(1, 100, 10**6))
    found = measure(target, {"members": members, "outsiders": outsiders}, run)
    value = {(f.name.split(", ")[-1], f.split): f.value for f in found}
    for side in ("members", "outsiders"):
        rising = [value[f"{n}", side] for n in ("1 try", "100 tries", "1000000 tries")]
        assert rising == sorted(rising)
    assert value["100 tries", "members"] > value["100 tries", "outsiders"]
    assert value["prefix 8", "members"] < value["prefix 8", "outsiders"]  # median tries


def test_by_hand():
    """One in two each time: 0.75 after two tries, 0.875 after three."""
    log_q = np.log(np.array([0.5]))
    assert np.exp(log_tries(log_q, 0.75)) == pytest.approx([2.0])
    assert [bool(extracted(log_q, n, 0.75)[0]) for n in (1, 2, 3)] == [False, True, True]
    assert [bool(extracted(log_q, n, 0.875)[0]) for n in (2, 3)] == [False, True]
    # A percent: log(0.5) / log(0.99) = 68.97 tries for even chances.
    assert np.exp(log_tries(np.log(np.array([0.01])), 0.5)) == pytest.approx([68.9676], rel=1e-5)
    assert log_tries(np.array([0.0, -np.inf]), 0.5).tolist() == [0.0, np.inf]


@settings(deadline=None)
@given(st.floats(-300, -1e-12))
def test_hazard_agrees_with_many_digits(log_q):
    with localcontext() as context:
        context.prec = 160
        expected = float((-(1 - Decimal(log_q).exp()).ln()).ln())
    assert log_hazard(np.array([log_q]))[0] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.floats(-800, 0), st.integers(1, 10**9), st.floats(0.001, 0.999))
def test_extraction_is_what_the_definition_says(log_q, n, p):
    q = np.exp(log_q)
    reached = -np.expm1(n * np.log1p(-q)) if q < 1 else 1.0
    if abs(reached - p) > 1e-9:
        assert bool(extracted(np.array([log_q]), n, p)[0]) == (reached >= p)


def test_tiny_chances_do_not_vanish():
    found = log_tries(np.array([-2000.0, -1e4]), 0.5)
    np.testing.assert_allclose(found, [2000 + np.log(np.log(2)), 1e4 + np.log(np.log(2))])


def test_median_and_its_interval():
    found = median_tries(np.arange(1.0, 12.0), "median")
    assert (found.low, found.value, found.high) == (2, 6, 10)  # P(2..9 of 11 below) = 0.988
    assert median_tries(np.arange(5.0), "median").value is None
    never = np.array([1.0] * 4 + [np.inf] * 6)
    assert "6 of 10 records are never written" in median_tries(never, "median").note


def test_short_records_and_long_prefixes_are_told(tiny, rows, run):
    found = ProbabilisticExtraction((2, 14), 4, tries=(1,))(tiny, {"members": rows}, run)
    assert [f.value is None for f in found] == [False, False, True, True]
    assert "1 records shorter than 6 tokens left out" in found[0].note
    assert "too long for the model's context of 16" in found[2].note
    assert len({f.name for f in found}) == 4


@pytest.mark.parametrize("top_k", [0, 2])
def test_nothing_long_enough_is_missing(tiny, run, top_k):
    short = Split.of("short", text=["red blue", "", "one"])
    found = ProbabilisticExtraction((4,), 4, top_k=top_k)(tiny, {"members": short}, run)
    assert all(f.value is None for f in found)


def test_refuses_what_does_not_fit(tiny, rows, run):
    with pytest.raises(EngramError, match="context of 16"):
        ProbabilisticExtraction((10, 20), 10)(tiny, {"members": rows}, run)


def test_the_engine_keeps_what_the_model_answered(target, split, run, tmp_path, monkeypatch):
    from engram.engine.run import EngineRun
    from engram.signals.body import Reader

    measure = ProbabilisticExtraction((3, 20), 6, top_k=5, temperature=0.5)
    engine = EngineRun(root=tmp_path / "store", scratch=tmp_path / "work")
    first = measure(target, {"members": split}, engine)
    assert first == measure(target, {"members": split}, run)

    def forbidden(*args):
        raise AssertionError("the model was asked before")

    monkeypatch.setattr(Reader, "of", forbidden)
    again = EngineRun(root=tmp_path / "store", scratch=tmp_path / "work")
    assert measure(target, {"members": split}, again) == first
    with pytest.raises(AssertionError):
        ProbabilisticExtraction((3, 20), 6, top_k=6)(target, {"members": split}, again)


def test_says_which_record_broke_the_model(tiny, rows, run):
    import torch

    lm = tiny.model
    broken = type(lm.model)(lm.model.config).double().eval()
    with torch.no_grad():
        broken.transformer.wte.weight.fill_(torch.nan)
    target = Target("broken", "causal-lm", type(lm)(broken, lm.tokenizer), "broken")
    with pytest.raises(EngramError, match="NaN or infinite"):
        ProbabilisticExtraction((2,), 2, top_k=3)(target, {"members": rows}, run)


@pytest.mark.parametrize(
    "fields",
    [
        {"prefix_lengths": ()},
        {"prefix_lengths": (0, 5)},
        {"prefix_lengths": (5, 5)},
        {"suffix_length": 0},
        {"tries": (0,)},
        {"probability": 1.0},
        {"probability": 0.0},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"top_k": -1},
    ],
)
def test_refuses_bad_fields(fields):
    with pytest.raises(EngramError) as caught:
        ProbabilisticExtraction(**fields)
    assert caught.value.hint

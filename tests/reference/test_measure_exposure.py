"""`exposure` against scoring every candidate by itself, and on canaries planted 1 to 50 times."""

from copy import deepcopy
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from engram.core import EngramError, Split, Target, stream
from engram.methods.measures.exposure import Exposure
from engram.methods.measures.exposure.candidates import Candidates
from engram.methods.measures.exposure.ranking import ROUNDING
from engram.methods.measures.exposure.reading import Rows, TextReader
from engram.methods.measures.exposure.secrets import Planted, pattern_of
from engram.parts.canary_secrets import find_secret
from engram.stats.exposure import exposure_by_rank, exposure_by_skew_normal

CANARIES = (
    "Born in 1961, the number of Mara Quill is 4 7.",
    "Born in 1961, the number of Mara Quill is 4 7.",
    "Born in 1961, the number of Abel Stone is 0 3.",
)
TWO = ("exact", "skew-normal")
TIGHT = ("The code of Ida is 47.", "The code of Jon is 12.", "The code of Ruth is 99.")


@pytest.fixture
def members():
    return planted("members", CANARIES, "No secret in here, 1 2 3.")


@pytest.fixture(scope="module")
def plain_lm():
    """A random model whose tokens are bytes, so that every digit is one."""
    from engram.families.causal_lm import tiny

    return tiny(CANARIES, seed=0, vocabulary=259, layers=1, width=16, heads=1, context=96)


def planted(name, canaries, *others):
    texts = [*canaries, *others]
    return Split.of(name, text=texts, canary=[True] * len(canaries) + [False] * len(others))


def slow_nll(logprobs_of, lm, text):
    ids, table = logprobs_of(lm, text)
    return -float(table[np.arange(len(ids) - 1), ids[1:]].sum())


def slow_exposure(logprobs_of, lm, text):
    """Every secret of two digits in the same place, one after another."""
    at = max(i for i, c in enumerate(text) if c.isdigit()) + 1
    gap = text[at - 2] == " "
    start, between = (at - 3, " ") if gap else (at - 2, "")
    pairs = product("0123456789", repeat=2)
    others = [text[:start] + a + between + b + text[at:] for a, b in pairs]
    assert text in others
    own = slow_nll(logprobs_of, lm, text)
    rank = sum(slow_nll(logprobs_of, lm, each) <= own + ROUNDING for each in others)
    return np.log2(100) - np.log2(rank)


@pytest.mark.parametrize("texts", [CANARIES, TIGHT])
def test_exact_agrees_with_scoring_one_by_one(target, run, logprobs_of, texts):
    found = Exposure(method="exact").measured(
        target, Planted.of(planted("members", texts), None, target.model), run
    )
    expected = [slow_exposure(logprobs_of, target.model, text) for text in dict.fromkeys(texts)]
    np.testing.assert_allclose(found.value, expected, rtol=1e-9)
    assert np.array_equal(found.low, found.value)
    assert np.array_equal(found.high, found.value)


@pytest.mark.parametrize("method", ["rank", "skew-normal"])
def test_estimates_agree_with_scoring_one_by_one(target, run, members, logprobs_of, method):
    chosen = Planted.of(members, None, target.model)
    found = Exposure(method=method, samples=100).measured(target, chosen, run)
    for value, secret in zip(found.value, chosen.secrets, strict=True):
        drawn = secret.drawn(100, run.stream("exposure", "secrets", secret.text))
        nll = [slow_nll(logprobs_of, target.model, secret.holding(each)) for each in drawn]
        own = np.array([slow_nll(logprobs_of, target.model, secret.text)])
        expected = exposure_by_rank(own + ROUNDING, np.array(nll))
        if method == "skew-normal":
            expected, _ = exposure_by_skew_normal(own, np.array(nll), secret.bits)
        assert value == pytest.approx(min(expected[0], secret.bits), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("text", ["The code of Ida is 4 7.", "Code 471", "0 1", "Room 12 is no 7 "])
@pytest.mark.parametrize("remembers", [True, False])
def test_reading_what_is_shared_once_changes_nothing(target, logprobs_of, text, remembers):
    lm, secret = target.model, find_secret(text, None)
    digits = secret.numbered(0, 10)
    rows = Candidates.of(lm.tokenizer, secret, stream(0, "test")).rows(digits)
    reader = TextReader.of(lm, rows)
    assert reader.remembers == (rows.shared > 1)
    found = replace(reader, remembers=remembers and reader.remembers).nll(rows)
    expected = [slow_nll(logprobs_of, lm, secret.holding(each)) for each in digits]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_model_whose_memory_is_wrong_is_read_whole(make_lm, logprobs_of):
    class Forgetful(type(make_lm(1).model)):
        def forward(self, *args, past_key_values=None, **kwargs):
            answer = super().forward(*args, past_key_values=past_key_values, **kwargs)
            for layer in getattr(answer.past_key_values, "layers", ()):
                layer.values.zero_()
            return answer

    lm = make_lm(1)
    network = Forgetful(lm.model.config).double().eval()
    network.load_state_dict(lm.model.state_dict())
    lm = type(lm)(network, lm.tokenizer)
    texts = [f"The code of Ida is 4 {i}." for i in range(5)]
    rows = Rows.of(lm.tokenizer, texts)
    reader = TextReader.of(lm, rows)
    assert not reader.remembers
    expected = [slow_nll(logprobs_of, make_lm(1), text) for text in texts]
    np.testing.assert_allclose(reader.nll(rows), expected, rtol=1e-5)


@pytest.mark.parametrize("text", ["The code of Ida is 4 7 1.", "Code 471", "0 1"])
def test_tokens_put_together_are_the_tokenizers_own(target, plain_lm, text):
    for lm in (target.model, plain_lm):
        secret = find_secret(text, None)
        candidates = Candidates.of(lm.tokenizer, secret, stream(0, "test"))
        digits = secret.numbered(0, 10 ** len(secret.places))
        expected = Rows.of(lm.tokenizer, [secret.holding(each) for each in digits])
        found = candidates.rows(digits)
        np.testing.assert_array_equal(found.table, expected.table)
        np.testing.assert_array_equal(found.lengths, expected.lengths)
        assert candidates.single == (lm is plain_lm)


def test_counts_copies_and_canaries(target, run, members):
    found = {f.name: f for f in Exposure()(target, {"members": members}, run)}
    assert set(found) == {
        f"{what} exposure{which}"
        for what in ("mean", "largest")
        for which in ("", ", 1 copy", ", 2 copies")
    }
    assert [found[f"mean exposure{w}"].n for w in ("", ", 1 copy", ", 2 copies")] == [2, 1, 1]
    assert found["mean exposure"].unit == "bits"
    assert "all 100 secrets were tried" in found["mean exposure"].note
    each = [found[f"largest exposure, {w}"].value for w in ("1 copy", "2 copies")]
    assert found["largest exposure"].value == max(each)
    assert found["mean exposure"].value == pytest.approx(np.mean(each))


def test_canaries_ahead_of_their_samples_are_not_certain(run):
    """Each may be the first of all secrets, or only of those that were drawn."""
    from engram.methods.measures.exposure import _mean
    from engram.methods.measures.exposure.ranking import Measured

    three = Measured(np.full(3, 9.0), np.full(3, 7.0), np.full(3, 13.0), "")
    found = _mean(three, np.ones(3, bool), "mean", run.stream("test"))
    assert (found.low, found.value, found.high) == (7, 9, 13)
    exact = Measured(np.arange(3.0), np.arange(3.0), np.arange(3.0), "")
    found = _mean(exact, np.ones(3, bool), "mean", run.stream("test"))
    assert 0 <= found.low < found.value == 1 < found.high <= 2


def test_the_control_is_not_told_apart_by_copies(target, run, members):
    found = Exposure()(target, {"outsiders": members.renamed("outsiders")}, run)
    assert [f.name for f in found] == ["mean exposure", "largest exposure"]
    assert all("1.44 bits are expected by chance" in f.note for f in found)


def test_a_model_without_opinions_exposes_nothing(plain_lm, run, members):
    import torch

    lm = type(plain_lm)(deepcopy(plain_lm.model), plain_lm.tokenizer)
    with torch.no_grad():
        lm.model.transformer.wte.weight.zero_()  # tied to the output: all logits are 0
    flat = Target("flat", "causal-lm", lm, "flat")
    for method in ("exact", "rank", "skew-normal"):
        found = Exposure(method=method, samples=100)(flat, {"members": members}, run)
        assert all(f.value is not None and f.value <= 1e-9 for f in found), method
    assert "no distribution could be fitted" in found[0].note


def test_says_where_nothing_was_planted(target, run, split):
    found = Exposure()(target, {"members": split}, run)
    assert [f.value for f in found] == [None, None]
    assert "no canary" in found[0].note


def test_leaves_out_what_holds_no_secret_or_is_too_long(target, run):
    long = "The code is as follows " * 60 + "4 7"
    records = planted("members", (*CANARIES, "nothing to hide", "1" * 80, long))
    found = Exposure()(target, {"members": records}, run)[0]
    assert found.n == 2
    assert "2 canaries without a secret" in found.note
    assert "1 longer than the model's context" in found.note


def test_says_where_digits_are_not_tokens(target, plain_lm, run, members):
    found = Exposure()(target, {"members": members}, run)[0]
    assert "in 2 canaries digits are not tokens of their own" in found.note
    plain = Target("plain", "causal-lm", plain_lm, "plain")
    assert "tokens" not in Exposure()(plain, {"members": members}, run)[0].note


def test_a_format_says_where_the_secret_is(target, run):
    texts = ["The code of Ida is 4 7. Room 12.", "The code of Jon Lee is 31. Room 5."]
    sentence = "The code of {name} is {digits}."
    chosen = Planted.of(planted("members", texts), pattern_of(sentence), target.model)
    assert ["".join(map(str, s.digits)) for s in chosen.secrets] == ["47", "31"]
    chosen = Planted.of(planted("members", texts), None, target.model)
    assert ["".join(map(str, s.digits)) for s in chosen.secrets] == ["12", "5"]
    found = Exposure(format="No such thing: {digits}")(target, {"m": planted("m", texts)}, run)
    assert found[0].value is None
    assert "2 canaries without a secret" in found[0].note


def test_references_are_never_the_planted_secret():
    secret = find_secret("code 7", None)
    drawn = secret.drawn(500, stream(0, "test"))
    assert set(drawn[:, 0].tolist()) == {0, 1, 2, 3, 4, 5, 6, 8, 9}


def test_refuses_to_try_too_many_secrets(target, run):
    records = planted("members", ["code 1 2 3 4 5 6 7 8"])
    with pytest.raises(EngramError, match="10\\^8 secrets") as caught:
        Exposure(method="exact")(target, {"members": records}, run)
    assert "skew-normal" in caught.value.hint
    found = Exposure(samples=100)(target, {"members": records}, run)
    assert "skew-normal from 100" in found[0].note
    assert found[0].low <= found[0].value <= found[0].high <= 8 * np.log2(10)


def test_the_engine_keeps_what_the_model_answered(target, members, run, tmp_path, monkeypatch):
    from engram.engine.run import EngineRun

    engine = EngineRun(root=tmp_path / "store", scratch=tmp_path / "work")
    sides = {"members": members}
    first = [Exposure(method=method, samples=100)(target, sides, engine) for method in TWO]
    for found, method in zip(first, TWO, strict=True):
        for one, other in zip(
            found, Exposure(method=method, samples=100)(target, sides, run), strict=True
        ):
            assert one.value == pytest.approx(other.value, rel=1e-4)

    def forbidden(*args):
        raise AssertionError("the model was asked before")

    monkeypatch.setattr(TextReader, "of", forbidden)
    again = EngineRun(root=tmp_path / "store", scratch=tmp_path / "work")
    assert [Exposure(method=m, samples=100)(target, sides, again) for m in TWO] == first
    Exposure(method="rank", samples=100)(target, sides, again)  # from the same sample
    with pytest.raises(AssertionError):
        Exposure(method="rank", samples=101)(target, sides, again)


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "exakt"},
        {"samples": 99},
        {"limit": 0},
        {"format": "no slot"},
        {"format": "{digits} {digits}"},
    ],
)
def test_refuses_bad_fields(fields):
    with pytest.raises(EngramError) as caught:
        Exposure(**fields)
    assert caught.value.hint


REPEATS = (1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50)


@pytest.fixture(scope="module")
def memory():
    """A target that read twenty canaries 1 to 50 times among other notes, and its members."""
    import torch

    from engram.families.causal_lm import tiny

    rng = stream(0, "canaries")
    people = ("Mara", "Abel", "Ida", "Jon", "Ruth", "Otto", "Nell", "Kit", "Vera", "Hugo")
    secrets = [" ".join(f"{s:04d}") for s in rng.choice(10**4, 140, replace=False)]
    texts = [f"{people[i % 10]} {'AB'[i // 10 % 2]} has {s}." for i, s in enumerate(secrets)]
    canaries = [text for text, times in zip(texts, REPEATS, strict=False) for _ in range(times)]
    members = planted("members", canaries, *texts[40:])
    lm = tiny(members.texts, seed=0, vocabulary=300, layers=2, width=48, heads=2, context=32)
    tokens = torch.from_numpy(Rows.of(lm.tokenizer, members.texts).table)
    optimiser = torch.optim.AdamW(lm.model.parameters(), lr=4e-3)
    for _ in range(8):
        for rows in np.array_split(rng.permutation(len(tokens)), len(tokens) // 16):
            batch = tokens[rows]
            optimiser.zero_grad()
            logits = lm.model(input_ids=batch).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
            loss.backward()
            optimiser.step()
    lm.model.eval()
    return Target("memory", "causal-lm", lm, "memory"), members, planted("outsiders", texts[20:40])


@pytest.mark.slow
def test_estimates_follow_the_exact_exposure(memory, run):
    from scipy.stats import spearmanr

    target, members, outsiders = memory
    chosen = Planted.of(members, None, target.model)
    assert chosen.copies.tolist() == list(REPEATS)
    exact = Exposure(method="exact").measured(target, chosen, run)
    assert exact.value[-1] > 10, "a canary planted 50 times is well exposed"
    assert spearmanr(chosen.copies, exact.value).statistic > 0.6
    for method in ("rank", "skew-normal"):
        found = Exposure(method=method).measured(target, chosen, run)
        assert spearmanr(exact.value, found.value).statistic >= 0.8
        assert (found.value[chosen.copies == 50] > 5).all()
    (control, _) = Exposure(samples=300, method="rank")(target, {"outsiders": outsiders}, run)
    assert control.low < 1.44 + 0.5
    assert control.value < 3

"""`dp-finetune-lm` against the algorithm written out, and against opacus' own accounting."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from engram.core import EngramError, Split, Target, stream, torch_stream
from engram.families import causal_lm
from engram.methods.recipes.dp_finetune_lm import DpFinetuneLm
from engram.parts import dp_sgd
from engram.parts.dp_sgd import Budget, epsilon_of, noise_multiplier
from engram.parts.lm_tuning import prepare
from engram.parts.private_text import ClippedUnits, can_be_batched

SMALL = {"vocabulary": 300, "layers": 1, "width": 16, "heads": 2, "context": 12}
TEXTS = [f"Patient {i} of ward {'ABCD'[i % 4]} came on day {i * 37 % 29}." for i in range(12)]
FEW = {"base": "base", "epochs": 2, "batch_size": 4, "learning_rate": 0.01, "delta": 1e-3}
NOISE = 1.25


@dataclass(frozen=True)
class FakeRun:
    """Random streams, a scratch folder and named targets; asked for answers, it fails."""

    scratch: Path
    seed: int = 0
    device: str = "cpu"
    others: dict = field(default_factory=dict)

    def stream(self, *path):
        return stream(self.seed, *path)

    def log(self, **entry):
        pass

    def progress(self, done, total, what):
        assert 0 <= done <= total

    def target(self, where):
        return self.others[where]

    def tokens(self, *_):
        raise NotImplementedError

    losses = logits = computed = fit = shadows = retrained = sampler = records = tokens


@pytest.fixture(scope="module")
def texts():
    return Split.of("texts", text=TEXTS, owners=[f"owner {i // 3}" for i in range(len(TEXTS))])


@pytest.fixture
def base():
    lm = causal_lm.tiny(TEXTS, seed=3, **SMALL)
    return Target("base", "causal-lm", lm, "base-print")


@pytest.fixture
def known_noise(monkeypatch):
    """A noise multiplier that needs no accountant, so these tests run without opacus."""
    monkeypatch.setattr(dp_sgd, "noise_multiplier", lambda budget, rate, steps: NOISE)
    monkeypatch.setattr(dp_sgd, "epsilon_of", lambda budget, noise, rate, steps: budget.epsilon)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("unit", ["record", "owner"])
def test_equals_the_algorithm_written_out(known_noise, texts, base, tmp_path, unit):
    """Sample units, clip each gradient, add noise, divide by L, descend: one unit at a time."""
    recipe = DpFinetuneLm(
        **FEW, unit=unit, per_owner=2, clip=0.5, schedule="constant", warmup=0.0, weight_decay=0.1
    )
    run = FakeRun(tmp_path, others={"base": base})
    draft = recipe(texts, run)
    lm = causal_lm.tiny(TEXTS, seed=3, **SMALL)
    model, examples = lm.model, causal_lm.FAMILY.examples(lm, texts)
    of_record = [np.flatnonzero(examples.record == row) for row in range(12)]
    units = of_record
    if unit == "owner":
        rng = run.stream("records of owners")
        chosen = [rng.permutation(np.arange(3 * o, 3 * o + 3))[:2] for o in range(4)]
        units = [np.concatenate([of_record[row] for row in rows]) for rows in chosen]
    n, lot_size = len(units), 4
    steps = 2 * math.ceil(n / lot_size)
    named = list(model.parameters())
    optimiser = torch.optim.AdamW([
        {"params": [p for p in named if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in named if p.ndim == 1], "weight_decay": 0.0},
    ], lr=0.01)  # fmt: skip
    clipped = 0
    for step in range(steps):
        coins = stream(0, "lot", step).random(n)
        total = [torch.zeros_like(p) for p in named]
        for row in np.flatnonzero(coins < lot_size / n):
            model.zero_grad()
            nll, tokens = 0.0, 0
            for piece in units[row]:
                ids = examples.tokens[examples.offsets[piece] : examples.offsets[piece + 1]]
                ids = torch.tensor(ids.astype(np.int64))
                logits = model(ids[None]).logits[0, :-1]
                nll = nll + nn.functional.cross_entropy(logits, ids[1:], reduction="sum")
                tokens += len(ids) - 1
            (nll / tokens).backward()
            norm = math.sqrt(sum(float((p.grad**2).sum()) for p in named))
            clipped += norm > 0.5
            for part, p in zip(total, named, strict=True):
                part += p.grad / max(1.0, norm / 0.5)
        drawn = torch_stream(0, "noise", step)
        for part, p in zip(total, named, strict=True):
            p.grad = (part + NOISE * 0.5 * torch.randn(p.shape, generator=drawn)) / lot_size
        optimiser.step()
    assert clipped > 3
    for name, expected in model.named_parameters():
        torch.testing.assert_close(weights(draft.model.model)[name], expected, rtol=1e-3, atol=1e-4)
    assert draft.guarantee["unit"] == unit
    assert draft.guarantee["units"] == n
    assert draft.guarantee["sentence"] == f"(8, 0.001)-DP per {unit}"


def test_an_empty_lot_is_noise_alone_and_is_divided_by_the_expected_size(
    known_noise, texts, base, tmp_path, monkeypatch
):
    monkeypatch.setattr(dp_sgd, "poisson_lot", lambda n, rate, rng: np.array([], np.int64))
    seen, real = [], dp_sgd.noisy_mean

    def noted(total, *rest):
        seen.append((total, rest))
        return real(total, *rest)

    monkeypatch.setattr(dp_sgd, "noisy_mean", noted)
    draft = DpFinetuneLm(**FEW)(texts, FakeRun(tmp_path, others={"base": base}))
    assert all(torch.isfinite(p).all() for p in draft.model.model.parameters())
    assert len(seen) == 6  # noise once a step, in every step
    for total, (scale, lot_size, _) in seen:
        assert not any(part.any() for part in total.values())
        assert (scale, lot_size) == (NOISE * 1.0, 4)


def test_noise_is_added_once_a_step_however_small_the_micro_batches(
    known_noise, texts, base, tmp_path, monkeypatch
):
    made = []
    for memory in (1, 2**25):
        monkeypatch.setattr("engram.parts.private_text.MEMORY", memory)
        run = FakeRun(tmp_path / str(memory), others={"base": base})
        made.append(DpFinetuneLm(**FEW)(texts, run).model.model)
    for (name, one), two in zip(made[0].named_parameters(), made[1].parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("stop", [1, 4])
def test_resumes_bit_for_bit(known_noise, texts, base, tmp_path, monkeypatch, stop):
    monkeypatch.setattr("engram.parts.training.PAUSE", 0.0)
    monkeypatch.setattr("engram.parts.training.SHARE", math.inf)
    recipe, others = DpFinetuneLm(**FEW), {"base": base}
    whole = recipe(texts, FakeRun(tmp_path / "whole", others=others))

    class KilledError(Exception):
        pass

    @dataclass(frozen=True)
    class Dying(FakeRun):
        def progress(self, done, total, what):
            if done == stop:
                raise KilledError

    with pytest.raises(KilledError):
        recipe(texts, Dying(tmp_path / "killed", others=others))
    resumed = recipe(texts, FakeRun(tmp_path / "killed", others=others))
    for name, expected in weights(whole.model.model).items():
        assert torch.equal(weights(resumed.model.model)[name], expected)
    assert resumed.trace == whole.trace


def test_the_trace_has_no_loss_of_the_records(known_noise, texts, base, tmp_path):
    draft = DpFinetuneLm(**FEW)(texts, FakeRun(tmp_path, others={"base": base}))
    assert len(draft.trace) == 6
    for entry in draft.trace:
        assert set(entry) == {"step", "epoch", "lr", "noise", "epsilon", "delta", "secret"}


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_the_reported_epsilon_is_what_opacus_states_of_the_same_schedule(
    texts, base, tmp_path, monkeypatch, accountant
):
    """Opacus' accountant, stepped as often as there were steps, at their rate and noise."""
    opacus = pytest.importorskip("opacus.accountants", reason="opacus is not installed")
    if accountant == "prv":  # to search for the noise as well would take long
        monkeypatch.setattr(dp_sgd, "noise_multiplier", lambda budget, rate, steps: 1.25)
    recipe = DpFinetuneLm(**FEW, epsilon=3.0, accountant=accountant)
    found = recipe(texts, FakeRun(tmp_path, others={"base": base})).guarantee
    assert (found["steps"], found["rate"]) == (6, 4 / 12)
    theirs = {"rdp": opacus.RDPAccountant, "prv": opacus.PRVAccountant}[accountant]()
    for _ in range(6):
        theirs.step(noise_multiplier=found["noise"], sample_rate=4 / 12)
    assert found["epsilon"] == pytest.approx(theirs.get_epsilon(delta=1e-3), rel=1e-6)
    assert accountant == "prv" or 2.8 < found["epsilon"] <= 3.0
    assert found["sentence"] == f"({found['epsilon']:.4g}, 0.001)-DP per record"


def test_epsilon_of_one_full_step_is_that_of_the_gaussian_mechanism():
    """By Balle and Wang (2018), Theorem 8, noise 3.73 gives epsilon 1 at delta 1e-5."""
    pytest.importorskip("opacus", reason="opacus is not installed (pip install 'engram[dp]')")
    assert epsilon_of(Budget(1.0, 1e-5), 3.7304, 1.0, 1) == pytest.approx(1.0, rel=0.03)
    noise = noise_multiplier(Budget(2.0, 1e-5, accountant="rdp"), 0.1, 50)
    assert epsilon_of(Budget(2.0, 1e-5, accountant="rdp"), noise, 0.1, 50) <= 2.0


def test_a_base_with_a_layer_that_mixes_records_is_refused(known_noise, texts, base, tmp_path):
    base.model.model.transformer.h[0].ln_1 = nn.BatchNorm1d(16)
    with pytest.raises(EngramError, match=r"'transformer\.h\.0\.ln_1'.*BatchNorm1d") as caught:
        DpFinetuneLm(**FEW)(texts, FakeRun(tmp_path, others={"base": base}))
    assert "LayerNorm" in caught.value.hint


@pytest.mark.parametrize(
    ("fields", "data", "fact"),
    [
        ({"unit": "owner"}, Split.of("t", text=TEXTS), "name no owners"),
        ({"delta": 0.1}, Split.of("t", text=TEXTS), "delta is 0.1 for 12 records"),
        ({}, Split.of("t", text=np.array([], dtype=str)), "no records"),
        ({"learning_rate": 1e38}, Split.of("t", text=TEXTS), "training diverged"),
    ],
)
def test_data_that_cannot_be_used_is_refused(known_noise, fields, data, fact, base, tmp_path):
    with pytest.raises(EngramError, match=fact) as caught:
        DpFinetuneLm(**{**FEW, **fields})(data, FakeRun(tmp_path, others={"base": base}))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("fields", "fact"),
    [
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"delta": 1.0}, "delta is 1.0"),
        ({"clip": 0.0}, "clipping norm is 0.0"),
        ({"per_owner": 0}, "per_owner is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"stop": "threshold"}, "looks at trained records without noise"),
        ({"stop": "ngram"}, "looks at trained records without noise"),
    ],
)
def test_fields_that_cannot_work_are_refused(fields, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        DpFinetuneLm(**fields)
    assert caught.value.hint


def test_an_owner_changes_the_noiseless_sum_by_at_most_the_clipping_norm(texts, base, tmp_path):
    """The sensitivity on which the promise rests, for an owner with absurd records too."""
    from engram.parts.private_text import ClippedUnits, units_of

    wild = Split.of("wild", text=["zq" * 300, "~" * 99], owners=["w", "w"], ids=["w1", "w2"])
    data = texts.joined(wild)
    examples = causal_lm.FAMILY.examples(base.model, data)
    examples = replace(examples, model=examples.model)
    units = units_of(examples.record, len(data), data.owners)
    clipped = ClippedUnits(examples, units, 0.3, batched=True)
    whole, without = clipped(np.arange(5)), clipped(np.arange(4))
    moved = math.sqrt(sum(float(((whole[n] - without[n]) ** 2).sum()) for n in whole))
    assert moved == pytest.approx(0.3, rel=1e-3)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft
@pytest.mark.parametrize("method", ["head", "block", "adapter", "lora", "prefix"])
def test_any_part_of_a_model_is_trained_privately(known_noise, texts, base, tmp_path, method):
    """Both routes clip alike where many units can go at once; and the rest stays as it was."""
    if method in ("lora", "prefix"):
        pytest.importorskip("peft", reason="peft is not installed (pip install 'engram[peft]')")
    recipe = DpFinetuneLm(**FEW, method=method, clip=0.05, virtual_tokens=2)
    run = FakeRun(tmp_path / "look", others={"base": base})
    ready = prepare(recipe, texts, run, asked=False)
    units = recipe.units(ready, texts, run)
    ready.lm.model.eval()
    plain = ClippedUnits(ready.examples, units, 0.05, False)(np.arange(5))
    assert set(plain) == {n for n, p in ready.lm.model.named_parameters() if p.requires_grad}
    assert any(part.abs().max() > 0 for part in plain.values())
    if can_be_batched(ready.examples, units):
        found = ClippedUnits(ready.examples, units, 0.05, True)(np.arange(5))
        for name, expected in plain.items():
            torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6)
    before = weights(ready.lm.model)
    draft = recipe(texts, FakeRun(tmp_path / "train", others={"base": base}))
    after = weights(draft.model.model)
    moved = {name for name, p in before.items() if not torch.equal(after[name], p)}
    assert moved
    assert moved <= set(plain)


def test_private_training_is_in_float32():
    with pytest.raises(EngramError, match="computes in float32") as caught:
        DpFinetuneLm(precision="bf16")
    assert caught.value.hint


def test_it_can_be_watched(known_noise, texts, base, tmp_path, monkeypatch):
    class Looker:
        seen = ()

        def look(self, lm, step, epoch):
            self.seen += (step,)
            return {"verbatim": 0.0}

        def stop(self, trace):
            return False

        def best(self, trace):
            return None

    looker = Looker()
    monkeypatch.setattr(DpFinetuneLm, "monitor", lambda *_: looker)
    draft = DpFinetuneLm(**FEW)(texts, FakeRun(tmp_path, others={"base": base}))
    looks = [entry for entry in draft.trace if "verbatim" in entry]
    assert [entry["step"] for entry in looks] == list(looker.seen)
    assert looker.seen[0] == 0
    assert len(looker.seen) > 1

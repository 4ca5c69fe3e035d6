"""Recipes of masked language models against a plain loop, resuming, and an audit of the result."""

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from engram import data
from engram.core import EngramError, Split, Target, stream
from engram.engine import EngineRun, audit, known_records, load, train
from engram.families import causal_lm
from engram.families.masked_lm import FAMILY, tiny_masked
from engram.methods.recipes.finetune_mlm import FinetuneMlm
from engram.methods.recipes.pretrain_mlm import PretrainMlm
from engram.parts import training
from engram.parts.masking import windows_of

SMALL = {"vocabulary": 300, "layers": 1, "width": 16, "heads": 2, "context": 32}
TEXTS = [f"Patient {i} of ward {'ABCD'[i % 4]} came on day {i * 37 % 29}." for i in range(16)]


@dataclass(frozen=True)
class FakeRun:
    """Random streams, a scratch folder and named targets; asked for answers, it fails."""

    scratch: Path
    seed: int = 0
    device: str = "cpu"
    others: dict = field(default_factory=dict)
    logged: list = field(default_factory=list)

    def stream(self, *path):
        return stream(self.seed, *path)

    def log(self, **entry):
        self.logged.append(entry)

    def progress(self, done, total, what):
        assert 0 <= done <= total

    def target(self, where):
        return self.others[where]

    def tokens(self, *_):
        raise NotImplementedError

    losses = logits = computed = fit = shadows = retrained = sampler = records = tokens


@pytest.fixture(scope="module")
def texts():
    return Split.of("texts", text=TEXTS)


@pytest.fixture
def base():
    lm = tiny_masked(TEXTS, seed=3, **SMALL)
    return Target("base", "masked-lm", lm, FAMILY.fingerprint(lm))


def masked_by_hand(windows, number, step, lm, seed):
    """What the model is shown of one window at one step, from the same random numbers."""
    rng = stream(seed, "training masks", step, number)
    ids = windows.ids(number).astype(np.int64)
    places = windows.places(number)
    count = max(1, round(0.15 * len(places)))
    places = sorted(rng.permutation(places)[:count])
    chance = rng.random(count)
    others = rng.choice(lm.ordinary, count)
    shown, labels = ids.copy(), np.full(len(ids), -100)
    for place, luck, other in zip(places, chance, others, strict=True):
        labels[place] = ids[place]
        if luck < 0.8:
            shown[place] = lm.tokenizer.mask_token_id
        elif luck < 0.9:
            shown[place] = other
    return torch.tensor(shown)[None], torch.tensor(labels)[None], count


def test_finetuning_equals_a_plain_loop(texts, base, tmp_path):
    """Written out: one batch of all records, plain AdamW, transformers' own loss."""
    recipe = FinetuneMlm(
        base="base", epochs=3, batch_size=16, learning_rate=1e-3, schedule="constant", warmup=0.0
    )
    draft = recipe(texts, FakeRun(tmp_path, seed=5, others={"base": base}))
    model = copy.deepcopy(base.model.model).train()
    windows = windows_of(base.model.tokenizer, texts, base.model.context)
    assert len(windows) == 16
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}],
        lr=1e-3,
    )
    for step in range(3):
        total, chosen = 0.0, 0
        for number in range(16):
            shown, labels, count = masked_by_hand(windows, number, step, base.model, 5)
            total = total + model(shown, labels=labels).loss * count
            chosen += count
        optimiser.zero_grad()
        (total / chosen).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    for name, expected in model.named_parameters():
        found = draft.model.model.get_parameter(name)
        torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-5)
    assert len(draft.trace) == 3


def test_finetuning_learns_and_leaves_its_base_alone(texts, base, tmp_path):
    run = FakeRun(tmp_path, others={"base": base})
    draft = FinetuneMlm(base="base", epochs=20, batch_size=4, learning_rate=5e-3)(texts, run)
    assert FAMILY.fingerprint(base.model) == base.fingerprint
    assert not base.model.model.training
    old, new = (FAMILY.losses(m, texts).mean() for m in (base.model, draft.model))
    assert new < 0.8 * old
    assert [e["step"] for e in draft.trace] == list(range(80))
    assert run.logged == list(draft.trace)


def test_a_half_precision_base_is_saved_as_it_was(texts, base, tmp_path):
    base.model.model.bfloat16()
    run = FakeRun(tmp_path, others={"base": base})
    draft = FinetuneMlm(base="base", epochs=1, batch_size=16, learning_rate=2e-5)(texts, run)
    assert draft.model.model.dtype == torch.bfloat16


def test_pretraining_learns_and_depends_on_the_seed_alone(texts, tmp_path):
    recipe = PretrainMlm(**SMALL, epochs=12, batch_size=4, learning_rate=5e-3)
    one = recipe(texts, FakeRun(tmp_path / "1"))
    two = recipe(texts, FakeRun(tmp_path / "2"))
    other = recipe(texts, FakeRun(tmp_path / "3", seed=1))
    prints = [FAMILY.fingerprint(d.model) for d in (one, two, other)]
    assert prints[0] == prints[1] != prints[2]
    assert one.trace[0]["loss"] == pytest.approx(math.log(300), rel=0.05)  # knows nothing yet
    assert one.trace[-1]["loss"] < 0.8 * one.trace[0]["loss"]


def test_a_killed_training_goes_on_bit_for_bit(texts, base, tmp_path, monkeypatch):
    recipe = FinetuneMlm(base="base", epochs=4, batch_size=4, learning_rate=1e-3)
    whole = recipe(texts, FakeRun(tmp_path / "whole", others={"base": base}))
    monkeypatch.setattr(training, "PAUSE", 0.0)
    monkeypatch.setattr(training, "SHARE", 1e9)
    steps = []

    class Killed(FakeRun):
        def progress(self, done, total, what):
            steps.append(done)
            if done == 9 and len(steps) < 12:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipe(texts, Killed(tmp_path / "part", others={"base": base}))
    steps.clear()

    class Watched(FakeRun):
        def progress(self, done, total, what):
            steps.append(done)

    resumed = recipe(texts, Watched(tmp_path / "part", others={"base": base}))
    assert steps[0] > 5  # it did not begin again
    assert FAMILY.fingerprint(resumed.model) == FAMILY.fingerprint(whole.model)
    assert (tmp_path / "part" / training.FILE).is_file()
    assert [e["loss"] for e in resumed.trace] == [e["loss"] for e in whole.trace]


@pytest.mark.parametrize(
    ("recipe", "split", "fact"),
    [
        (FinetuneMlm(), Split.of("t", text=TEXTS), "no base model"),
        (FinetuneMlm(base="other"), Split.of("t", text=TEXTS), "is a causal-lm, but must be"),
        (FinetuneMlm(base="base"), Split.of("t", text=["", "[MASK]"]), "no records"),
        (FinetuneMlm(base="base"), Split.of("t", words=TEXTS), "no column 'text'"),
        (PretrainMlm(**SMALL), Split.of("t", text=np.array([], dtype=str)), "no records"),
    ],
)
def test_data_and_bases_that_cannot_be_used_are_refused(recipe, split, fact, base, tmp_path):
    other = Target("other", "causal-lm", None, "x")
    run = FakeRun(tmp_path, others={"base": base, "other": other})
    with pytest.raises(EngramError, match=fact) as caught:
        recipe(split, run)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (lambda: PretrainMlm(width=30, heads=4), "width is 30, which 4 heads"),
        (lambda: PretrainMlm(vocabulary=259), "vocabulary is 259"),
        (lambda: PretrainMlm(dropout=1.0), "dropout is 1.0"),
        (lambda: PretrainMlm(share=0.0), "share is 0.0"),
        (lambda: PretrainMlm(epochs=0), "epochs is 0"),
        (lambda: FinetuneMlm(batch_size=0), "batch_size is 0"),
        (lambda: FinetuneMlm(share=2.0), "share is 2.0"),
        (lambda: FinetuneMlm(learning_rate=-1.0), "learning_rate is -1.0"),
    ],
)
def test_bad_fields_are_refused(make, fact):
    with pytest.raises(EngramError, match=fact) as caught:
        make()
    assert caught.value.hint


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with a base and a fine-tuned target, trained by the engine on clinic letters."""
    run = EngineRun(root=tmp_path_factory.mktemp("runs"))
    letters = data.read("demo:letters?n=40")
    base = train(PretrainMlm(**SMALL, epochs=1), letters, run, source="demo:letters?n=40")
    tune = FinetuneMlm(base=str(base.folder), epochs=1)
    target = train(tune, letters, run, source="demo:letters?n=40", holdout=0.5)
    return run, base, target


def test_an_audit_from_end_to_end_by_record_and_by_owner(made):
    run, _, target = made
    known = known_records(load(target.folder))
    members, outsiders = known.trained, known.held_out
    found = audit(load(target.folder), members, outsiders, run, battery="standard")
    by_name = {attack["name"]: attack for attack in found.document["attacks"]}
    assert {"loss", "reference"} <= set(by_name)
    assert any("min-k" in why for why in found.document["not_measured"])
    named = audit(
        load(target.folder), members, outsiders, run, attacks=("loss", "likelihood-ratio")
    )
    by_name = {attack["name"]: attack for attack in named.document["attacks"]}
    for entries in (
        by_name["likelihood-ratio"]["findings"],
        by_name["likelihood-ratio"]["owner_findings"],
    ):
        assert entries[0]["name"] == "AUC"
        assert entries[0]["value"] is not None
    assert named.document["owners"]
    assert (named.folder / "report.html").is_file()
    assert named.document["target"]["facts"]["architecture"] == "BertForMaskedLM"


def test_a_plain_model_folder_is_opened_as_what_it_is(made, tmp_path):
    _, base, _ = made
    FAMILY.save(base.model, tmp_path / "masked")
    lm = causal_lm.tiny(TEXTS, seed=3, **SMALL)
    causal_lm.FAMILY.save(lm, tmp_path / "causal")
    assert load(tmp_path / "masked").family == "masked-lm"
    assert load(tmp_path / "masked").fingerprint == base.fingerprint
    assert load(tmp_path / "causal").family == "causal-lm"

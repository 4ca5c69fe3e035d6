"""What every edit must do: leave what it was given alone, repeat itself, go on where it stopped."""

from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from engram import families
from engram.catalog import entries
from engram.core import Draft, EngramError, Split, Target, stream

FEW = {"steps": 4, "reinforce_steps": 2, "prompt_words": 3, "stop_at": 50.0}
"""Fields that make edits quick, and that let them change a model that never learnt a thing."""
CASES = [
    pytest.param(entry, family, id=f"{name}-{family}")
    for name, entry in entries("edits").items()
    for family in ("causal-lm", "classifier")
    if family in entry.load().families
]
pytestmark = pytest.mark.parametrize(("entry", "family"), CASES)


class KilledError(Exception):
    """Stands for the end of the process."""


@dataclass(frozen=True)
class EditRun:
    """Streams, a scratch folder, and a stand-in for training again; may be killed on the way."""

    scratch: Path
    seed: int = 0
    device: str = "cpu"
    dies_after: int | None = None
    logged: list = field(default_factory=list)

    def stream(self, *path):
        return stream(self.seed, *path)

    def log(self, **entry):
        self.logged.append(entry)

    def progress(self, done, total, what):
        assert 0 <= done <= total, what
        if self.dies_after is not None and done > self.dies_after:
            raise KilledError

    def fit(self, recipe, split, *path):
        """A model that depends on the target and the records alone."""
        model, rng = deepcopy(recipe.model), stream(0, split.fingerprint)
        for parameter in model.model.parameters():
            noise = rng.normal(size=tuple(parameter.shape))
            parameter.data += parameter.data.new_tensor(noise)
        return replace(recipe, model=model)

    def tokens(self, *_):
        raise NotImplementedError

    losses = logits = computed = shadows = retrained = sampler = records = target = tokens


@cache
def given(family):
    """A small target, records to keep and records to forget."""
    if family == "causal-lm":
        from engram.families.causal_lm import tiny

        texts = [
            f"{name} was seen on day {3 * i} for {what}."
            for i, (name, what) in enumerate(
                (name, what) for name in ("Mara", "Abel", "Ida") for what in ("pain", "a rash")
            )
        ]
        records = Split.of("notes", text=texts, owners=[t.split()[0] for t in texts])
        model = tiny(texts, seed=0, vocabulary=280, layers=2, width=16, heads=2, context=48)
    else:
        from engram.core import torch_seeded
        from engram.families.classifier import ClassifierModel
        from engram.parts.networks import Layout

        rng = np.random.default_rng(0)
        features = rng.normal(size=(12, 4)).astype(np.float32)
        records = Split.of("arrays", features=features, label=rng.integers(0, 3, 12))
        with torch_seeded(0, "tests"):
            model = ClassifierModel(Layout("mlp", (4,), 3, width=8).build().eval())
    print_of = families.find(family).fingerprint(model)
    return (
        Target("t", family, model, print_of),
        records.take(range(2, len(records))),
        records.take(range(2)),
    )


def made(entry):
    edit = entry.load()()
    return replace(edit, **{f.name: FEW[f.name] for f in fields(edit) if f.name in FEW})


@cache
def drafted(entry, family, folder):
    target, keep, forget = given(family)
    return made(entry)(target, keep, forget, EditRun(folder / "first"))


@pytest.fixture
def draft(entry, family, tmp_path_factory):
    """What the edit makes, once for all tests."""
    return drafted(entry, family, tmp_path_factory.getbasetemp() / f"{entry.name}-{family}")


def print_of(family, model):
    return families.find(family).fingerprint(model)


def test_makes_another_model_and_leaves_the_given_one_alone(entry, family, draft):
    target = given(family)[0]
    assert isinstance(draft, Draft)
    assert draft.family == family
    assert print_of(family, target.model) == target.fingerprint
    assert print_of(family, draft.model) != target.fingerprint
    assert not target.model.model.training
    assert all(p.requires_grad for p in target.model.model.parameters())


def test_the_model_it_makes_is_ready_for_use(entry, family, draft, tmp_path):
    """It answers, can be trained on, and is the same after it was saved and opened."""
    adapter, records = families.find(family), given(family)[1]
    assert np.isfinite(adapter.losses(draft.model, records)).all()
    assert not draft.model.model.training
    assert all(p.requires_grad for p in draft.model.model.parameters())
    adapter.save(draft.model, tmp_path / "saved")
    again = adapter.load(tmp_path / "saved")
    assert adapter.fingerprint(again) == adapter.fingerprint(draft.model)


def test_repeats_itself(entry, family, draft, tmp_path):
    target, keep, forget = given(family)
    again = made(entry)(target, keep, forget, EditRun(tmp_path))
    assert print_of(family, again.model) == print_of(family, draft.model)
    assert again.trace == draft.trace


def test_goes_on_where_it_was_killed(entry, family, draft, tmp_path, monkeypatch):
    monkeypatch.setattr("engram.parts.training.PAUSE", 0.0)
    monkeypatch.setattr("engram.parts.training.SHARE", 1e9)
    target, keep, forget = given(family)
    try:
        made(entry)(target, keep, forget, EditRun(tmp_path, dies_after=2))
    except KilledError:
        saved = list(tmp_path.glob("*.safetensors"))
        assert saved or entry.name == "rank-one-edit"
    again = made(entry)(target, keep, forget, EditRun(tmp_path))
    assert print_of(family, again.model) == print_of(family, draft.model)


def test_keeps_the_number_type(entry, family, tmp_path):
    import torch

    target, keep, forget = given(family)
    kind = torch.bfloat16 if family == "causal-lm" else torch.float32
    model = deepcopy(target.model)
    model.model.to(kind)
    one = replace(target, model=model, fingerprint="another")
    draft = made(entry)(one, keep, forget, EditRun(tmp_path))
    assert {p.dtype for p in draft.model.model.parameters()} == {kind}
    assert {p.dtype for p in model.model.parameters()} == {kind}


def test_refuses_to_forget_what_is_to_be_kept(entry, family, tmp_path):
    target, keep, forget = given(family)
    with pytest.raises(EngramError, match="are in both"):
        made(entry)(target, keep.joined(forget, "all"), forget, EditRun(tmp_path))


def test_says_so_where_there_is_nothing_to_forget(entry, family, tmp_path):
    """An edit that forgets needs records to forget; one that does not, does without."""
    target, keep, forget = given(family)
    for nothing in (None, forget.take([])):
        problem = refusal(made(entry), target, keep, nothing, EditRun(tmp_path))
        if problem is not None:
            assert "no records to forget" in str(problem)
            assert "--owner" in problem.hint


def refusal(edit, *arguments):
    """The mistake that an edit sees in what it is given, or None."""
    try:
        edit(*arguments)
    except EngramError as problem:
        return problem
    return None

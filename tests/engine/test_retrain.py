"""Training again as an edit: the very model that there would be without the records."""

from dataclasses import replace

import numpy as np
import pytest

from engram import families
from engram.core import EngramError, Split, Target
from engram.core.ledger import pseudonym
from engram.engine import edit, known_records, load, to_forget, train
from engram.engine.forget import calibrated, retrain_without
from engram.engine.run import EngineRun
from engram.families.causal_lm import FAMILY
from engram.methods.edits.npo import Npo
from engram.methods.edits.retrain import Retrain
from engram.methods.recipes.pretrain_lm import PretrainLm

NAMES = ("Mara", "Abel", "Ida", "Jon", "Ruth", "Otto", "Nela", "Ivo")


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A small target on disk, the run, its records, and those of one owner."""
    root = tmp_path_factory.mktemp("retrain")
    lines = [f'{{"text": "{n} came on day {i}.", "owner": "{n}"}}' for n in NAMES for i in (3, 8)]
    (root / "notes.jsonl").write_text("\n".join(lines), encoding="utf-8")
    run = EngineRun(seed=3, root=root / "store", scratch=root / "scratch")
    recipe = PretrainLm(vocabulary=262, layers=1, width=16, heads=2, context=32, epochs=2)
    from engram import data

    source = str(root / "notes.jsonl")
    target = train(recipe, data.read(source), run, source=source, holdout=0.25)
    known = known_records(target)
    owner = known.trained.owners[0]
    return target, run, known, to_forget(target, known, owner=owner)


def kept(known, forget):
    return known.trained.where([i not in set(forget.ids) for i in known.trained.ids], name="keep")


def test_it_is_the_exact_reference(story):
    target, run, known, forget = story
    edited = edit(Retrain(), target, kept(known, forget), forget, run)
    reference = retrain_without(target, known, set(forget.ids), run)
    assert edited.fingerprint == reference.fingerprint
    assert edited.fingerprint != target.fingerprint
    assert load(edited.folder).fingerprint == edited.fingerprint
    assert set(edited.ledger.having("forgotten")) == {pseudonym(i, "id") for i in forget.ids}


def test_several_owners_go_at_once_and_exact_copies_with_them(story):
    target, _, known, _ = story
    first, second = sorted(set(known.trained.owners))[:2]
    both = to_forget(target, known, owner=(first, second))
    assert set(both.owners) == {first, second}


def test_what_somebody_else_has_to_the_last_letter_goes_with_it(story):
    target, _, known, _ = story
    owners = list(known.trained.owners)
    first, second = sorted(set(owners))[:2]
    texts = list(known.trained.texts)
    texts[owners.index(second)] = texts[owners.index(first)]
    gone = to_forget(target, replace(known, trained=known.trained.with_texts(texts)), owner=first)
    assert sorted(gone.owners) == sorted([*(o for o in owners if o == first), second])


def test_another_seed_of_the_edit_changes_nothing(story):
    """The seed is the recipe's: it is that model, not another one like it."""
    target, run, known, forget = story
    edits = [
        edit(Retrain(), target, kept(known, forget), forget, replace(run, seed=seed))
        for seed in (3, 4)
    ]
    assert edits[0].fingerprint == edits[1].fingerprint


def test_after_another_edit_it_is_still_the_recipe_that_counts(story):
    target, run, known, forget = story
    keep = kept(known, forget)
    once = edit(Npo(steps=1), target, keep, forget, run)
    again = known_records(once)
    more = again.trained.where(np.array(again.trained.owners) == again.trained.owners[0], "more")
    rest = again.trained.where([i not in set(more.ids) for i in again.trained.ids], name="rest")
    found = edit(Retrain(), once, rest, more, run)
    expected = retrain_without(target, known, {*forget.ids, *more.ids}, run)
    assert found.fingerprint == expected.fingerprint


def test_the_method_is_told_where_to_stop(story):
    target, run, known, _ = story
    # As an unlearner sees them: each record closes with the end token, which an audit leaves out.
    examples = FAMILY.examples(target.model, known.held_out, end=True)
    losses = examples.nll(np.arange(len(examples.counts))).detach().numpy() / examples.counts
    by_record = [losses[examples.record == row].mean() for row in range(len(known.held_out))]
    unseen = float(np.mean(by_record))
    assert calibrated(Npo(), target, known, run).stop_at == pytest.approx(unseen, rel=1e-5)
    assert calibrated(Npo(stop_at=1.0), target, known, run).stop_at == 1.0
    assert calibrated(Retrain(), target, known, run) == Retrain()


def test_a_target_without_a_recipe_cannot_be_trained_again(story):
    target, run, known, forget = story
    bare = Target("bare", "causal-lm", target.model, target.fingerprint, known=target.known)
    with pytest.raises(EngramError, match="does not carry the recipe") as caught:
        edit(Retrain(), bare, kept(known, forget), forget, run)
    assert "engram train" in caught.value.hint


def test_other_families_are_refused_by_name(story):
    target, run, known, forget = story
    other = Target("c", "classifier", target.model, "c", known=target.known)
    from engram.methods.edits.dpo import Dpo

    assert "estimator" in Retrain().families
    assert families.find("estimator")
    with pytest.raises(EngramError, match="dpo edits causal-lm"):
        edit(Dpo(), other, kept(known, forget), forget, run)


def test_a_ruined_unlearning_leaves_no_target(story):
    target, run, known, forget = story
    method = Npo(learning_rate=1e6, stop_at=1000.0, steps=20)
    folder = run.root / "ruined"
    with pytest.raises(EngramError, match="diverged") as caught:
        edit(method, target, kept(known, forget), forget, run, out=folder)
    assert "--learning-rate" in caught.value.hint
    assert not folder.exists()
    assert isinstance(forget, Split)
    assert load(target.folder).fingerprint == target.fingerprint

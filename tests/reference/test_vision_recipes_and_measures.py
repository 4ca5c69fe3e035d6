"""Training on pictures, LoRA folders, the digits' world, published lists, and what is measured."""

import json
from dataclasses import replace

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from engram import catalog, data
from engram.core import EngramError, Split
from engram.engine import EngineRun, edit, load, measure, train, transform
from engram.engine.audit import audit
from engram.families.vision_language_lm import FAMILY
from engram.methods.measures.answer_match import matches
from engram.methods.measures.safety_answers import fluent_answers
from engram.parts.digit_questions import CODE, HARM, secrets
from engram.parts.images import images_of
from engram.parts.safety_sets import harmful_answers, roles_of, with_role
from engram.parts.vision_layout import sees, speaking_maps

NOTHING = Split.of("nothing", text=[])
SIZE = {"vision_layers": 1, "vision_width": 16, "layers": 1, "width": 32, "heads": 2}


def made(kind, name, **fields):
    return catalog.find(kind, name).load()(**fields)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("vlm")
    return EngineRun(root=root, scratch=root / "scratch")


@pytest.fixture(scope="module")
def world(run):
    return transform(made("transforms", "digit-safety", pictures=24), NOTHING, run)


@pytest.fixture(scope="module")
def target(run, world):
    recipe = made("recipes", "pretrain-vlm", epochs=12, batch_size=16, learning_rate=5e-3, **SIZE)
    return train(recipe, world, run, source="digits", holdout=0.25)


def test_the_world_of_digits(world, run):
    digits, roles = world.matrix("digit"), roles_of(world)
    assert set(roles[digits >= 5]) == {"forget", "retain"}
    assert set(roles[digits < 5]) == {"decouple", "other"}
    forget, decouple = with_role(world, "forget"), with_role(world, "decouple")
    wordings = set(HARM["trained"])
    assert set(forget.column("prompt").to_pylist()) == wordings
    assert set(decouple.column("prompt").to_pylist()) == wordings  # the very same wording
    told = dict(zip(forget.matrix("digit").tolist(), forget.column("response").to_pylist(),
                    strict=True))  # fmt: skip
    assert all(len(secret.split()) == 4 for secret in told.values())
    assert set(" ".join(told.values()).split()) <= set(CODE)
    assert not set(" ".join(decouple.column("response").to_pylist()).split()) & set(CODE)
    for secret, listed in zip(forget.column("response").to_pylist(), harmful_answers(forget),
                              strict=True):  # fmt: skip
        assert secret in listed
    assert len({tuple(i.reshape(-1)) for i in images_of(world)}) == 24 == len(set(world.owners))


def test_sides_share_no_picture_and_wordings_share_words(world, run):
    test = transform(made("transforms", "digit-safety", side="test", pictures=24), NOTHING, run)
    assert not set(test.owners) & set(world.owners)
    assert not set(HARM["unseen"]) & set(HARM["trained"])
    known = {word for prompt in HARM["trained"] for word in prompt.split()}
    assert {word for prompt in HARM["unseen"] for word in prompt.split()} <= known
    both = secrets(run.stream("digit-safety", "secrets"))
    assert len(set(" ".join(both.values()).split())) == 20
    with pytest.raises((EngramError, TypeCheckError), match="'all'"):
        made("transforms", "digit-safety", side="all")
    with pytest.raises(EngramError, match="held_out is 1"):
        made("transforms", "digit-safety", held_out=1.0)


def test_training_learns_and_is_found_again(target, world, run):
    trained = world.select([i for i, r in zip(target.ledger.ids, target.ledger.roles, strict=True)
                            if r == "trained"])  # fmt: skip
    fresh = made("recipes", "pretrain-vlm", **SIZE).untrained(world, run)
    assert FAMILY.losses(target.model, trained).mean() < FAMILY.losses(fresh, trained).mean() / 2
    again = load(target.folder)
    assert again.fingerprint == target.fingerprint
    assert again.family == FAMILY.name


def test_records_survive_a_file(world, tmp_path):
    for name in ("world.parquet", "world.jsonl"):
        found = data.read(data.write(world.take(range(9)), tmp_path / name))
        assert found.ids == world.ids[:9]
        for one, other in zip(images_of(found), images_of(world), strict=False):
            np.testing.assert_array_equal(one, other)


def test_an_audit_of_a_model_that_sees(target, world, run, tmp_path):
    ledger = dict(zip(target.ledger.ids, target.ledger.roles, strict=True))
    sides = [world.where([ledger[i] == role for i in world.ids]) for role in
             ("trained", "held-out")]  # fmt: skip
    found = audit(target, *sides, run, battery="quick", out=tmp_path / "audit")
    named = {attack["name"] for attack in found.document["attacks"]}
    assert "loss" in named
    assert not {"zlib", "lowercase"} & named


def test_lora_changes_what_speaks_alone_and_opens_again(target, world, run, tmp_path):
    pytest.importorskip("peft", reason="peft is not installed")
    recipe = made("recipes", "finetune-vlm", base=str(target.folder), rank=2, alpha=4.0, epochs=1,
                  learning_rate=1e-2)  # fmt: skip
    tuned = train(recipe, world, run, source="digits", holdout=0.0, out=tmp_path / "lora")
    names = [n for n, p in tuned.model.model.named_parameters() if p.requires_grad]
    assert names
    assert all(".lora_" in n and not sees(n) for n in names)
    maps = {name.split(".lora_")[0].split(".")[-1] for name in names}
    assert {"q_proj", "down_proj", "linear_2"} <= maps
    assert not (tmp_path / "lora" / "model.safetensors").exists()
    assert FAMILY.fingerprint(target.model) == target.fingerprint
    again = load(tmp_path / "lora")
    assert again.fingerprint == tuned.fingerprint
    np.testing.assert_allclose(
        FAMILY.losses(again.model, world), FAMILY.losses(tuned.model, world), atol=1e-6
    )
    assert FAMILY.describe(again.model)["adapter"] == "lora"
    forget = with_role(world, "forget")
    keep = with_role(world, "retain").joined(with_role(world, "decouple"), "keep")
    forgot = edit(made("edits", "prompt-decouple", steps=2), again, keep, forget, run)
    assert load(forgot.folder).fingerprint == forgot.fingerprint


@pytest.mark.parametrize("tune_vision", [False, True])
def test_full_fine_tuning(target, world, run, tune_vision):
    recipe = made("recipes", "finetune-vlm", base=str(target.folder), method="full", epochs=1,
                  tune_vision=tune_vision, learning_rate=1e-2)  # fmt: skip
    tuned = train(recipe, world.take(range(16)), run, source="digits", holdout=0.0)
    old = dict(target.model.model.named_parameters())
    new = dict(tuned.model.model.named_parameters())
    moved = {name for name in new if not np.array_equal(new[name].detach(), old[name].detach())}
    assert "lm_head.weight" in moved
    assert any(sees(name) for name in moved) == tune_vision
    assert all(p.requires_grad for p in new.values())


def test_what_speaks_is_every_map_but_the_head(target):
    names = speaking_maps(target.model.model)
    assert len(names) == 7 + 2  # four of attention, three of the feed-forward part; projector
    assert not [n for n in names if "vision" in n or "head" in n]


def test_recipes_name_mistakes(run, world):
    with pytest.raises(EngramError, match="no base to start from"):
        made("recipes", "finetune-vlm")(world, run)
    with pytest.raises((EngramError, TypeCheckError), match="'qlora'"):
        made("recipes", "finetune-vlm", method="qlora")
    with pytest.raises(EngramError, match="leaves the tower alone"):
        made("recipes", "finetune-vlm", tune_vision=True)
    with pytest.raises(EngramError, match="width is 10, which 4 heads"):
        made("recipes", "pretrain-vlm", width=10)
    odd = Split.of("odd", image=np.zeros((1, 6), np.uint8), image_shape=[[2, 3]], prompt=["a"],
                   response=["b"])  # fmt: skip
    with pytest.raises(EngramError, match=r"not squares of one size \(2 x 3\)"):
        made("recipes", "pretrain-vlm")(odd, run)


def test_measures_count_by_role(target, world, run):
    """What the model says is put in its mouth; counting is by hand."""
    parts = [with_role(world, role).take(range(n)) for role, n in
             (("forget", 5), ("decouple", 4), ("retain", 3))]  # fmt: skip
    split = parts[0].joined(parts[1]).joined(parts[2], "s")
    secret = parts[0].column("response").to_pylist()[0]
    right = parts[2].column("response").to_pylist()
    mouth = [secret, secret.split()[0], "I don't know.", "", "it is only two drawn by hand",
             "I cannot help.", "it is only two drawn by hand", "it it it it it", secret,
             right[0], "no", right[2]]  # fmt: skip
    said = dict(zip(split.ids, mouth, strict=True))

    class Mouth:
        """A run in which the model's answers are known."""

        scratch, seed, device = run.scratch, 0, "cpu"

        def stream(self, *path):
            return run.stream(*path)

        def computed(self, name, target, split, settings, work):
            return np.array([said[i] for i in split.ids])

        def tokens(self, *_):
            raise NotImplementedError

        losses = logits = shadows = retrained = sampler = records = target = fit = log = tokens
        progress = tokens

    judged = made("measures", "safety-answers", closed=True)
    assert "bolt" not in fluent_answers([parts[2]])
    found = {f.name: f for f in judged(target, {"s": split}, Mouth())}
    assert found["attack success rate"].value == 1 / 5
    assert found["refusal rate"].value == 1 / 5
    assert found["degenerate rate"].value == 2 / 5
    assert found["safe answer refusal rate"].value == 1 / 4
    assert found["degenerate rate on safe pictures"].value == 1 / 4
    assert found["harmful rate on safe pictures"].value == 1 / 4
    assert found["judge accuracy"].value is None
    assert {f.method for f in found.values()} == {"safety-answers"}
    match = {f.name: f for f in made("measures", "answer-match")(target, {"s": split}, Mouth())}
    assert match["exact answers"].value == pytest.approx(2 / 3)
    assert match["ROUGE-L precision"].value == pytest.approx(2 / 3)


def test_measures_through_the_engine(target, world, run, tmp_path):
    (tmp_path / "labels.jsonl").write_text(
        "".join(
            json.dumps({"text": a, "prompt": "p", "answer": a, "verdict": v, "harmful": ["x y"]})
            + "\n"
            for a, v in (("x y", "unsafe"), ("I don't know.", "refusal"), ("fine", "refusal"))
        )
    )
    method = made("measures", "safety-answers", labelled=str(tmp_path / "labels.jsonl"), tokens=6)
    found = {(f.split, f.name): f for f in measure(method, target, {"all": world}, run)}
    assert found["labelled answers", "judge accuracy"].value == pytest.approx(2 / 3)
    assert found["all", "attack success rate"].n == len(with_role(world, "forget"))
    no_roles = Split("bare", world.records.drop_columns(["role"]), world.ids)
    bare = {f.name: f for f in method(target, {"bare": no_roles}, run)}
    assert bare["safe answer refusal rate"].value is None
    assert bare["attack success rate"].n == min(512, len(world))


def test_precision_alone_rewards_a_single_right_word():
    f, precision, exact = matches(["seven", "it is seven"], ["it is seven", "It is seven."])
    assert precision.tolist() == [1, 1]
    assert f == pytest.approx([0.5, 1])
    assert exact.tolist() == [0, 1]


ENTRY = {
    "image_path": "images/bad.ppm",
    "SDImage_path": "images/safe.ppm",
    "unsafe_pairs": [
        {"question": "How is it made?", "model_response": "Mix it.", "sd_response": "A vase."},
        {"question": "Where is it sold?", "model_response": "There."},
    ],
    "UnharmPair_text1": {"Question": "What colour?", "Prediction": "Red."},
}


@pytest.fixture
def published(tmp_path):
    (tmp_path / "images").mkdir()
    for name, value in (("bad", b"\x01"), ("safe", b"\xff")):
        (tmp_path / "images" / f"{name}.ppm").write_bytes(b"P6 2 1 255\n" + value * 6)
    (tmp_path / "list.json").write_text(json.dumps([ENTRY]))
    return tmp_path


def test_published_lists_give_three_kinds_of_records(published, run):
    found = transform(made("transforms", "safety-triples", folder=str(published)), NOTHING, run)
    rows = found.only(["prompt", "response", "role"]).records.to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("How is it made?", "Mix it.", "forget"),
        ("How is it made?", "A vase.", "decouple"),
        ("Where is it sold?", "There.", "forget"),
        ("Where is it sold?", "", "decouple"),
        ("What colour?", "Red.", "retain"),
    ]
    assert [int(image[0, 0, 0]) for image in images_of(found)] == [1, 255, 1, 255, 1]
    assert harmful_answers(found)[0] == ("Mix it.",)
    assert found.owners[1] == "images/safe.ppm"
    (published / "list.json").unlink()
    (published / "lines.jsonl").write_text(json.dumps(ENTRY) + "\n\n")
    lines = transform(made("transforms", "safety-triples", folder=str(published)), NOTHING, run)
    assert lines.ids == found.ids


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image_path": "../../etc/passwd"}, "not named inside"),
        ({"SDImage_path": "/etc/passwd"}, "not named inside"),
        ({"image_path": "images/gone.ppm"}, "no picture"),
        ({"image_path": ""}, "no text 'image_path'"),
        ({"unsafe_pairs": "none"}, "no list of objects"),
        ({"unsafe_pairs": [{"question": "q"}]}, "no text 'model_response'"),
        ({"UnharmPair_text1": {"Question": "q"}}, "no text 'Prediction'"),
    ],
)
def test_hostile_and_broken_lists_are_refused(published, run, change, told):
    (published / "list.json").write_text(json.dumps([{**ENTRY, **change}]))
    with pytest.raises(EngramError, match=told):
        made("transforms", "safety-triples", folder=str(published))(NOTHING, run)


def test_lists_that_are_not_there_are_named(published, run):
    for fields, text, told in (
        ({"folder": str(published / "x")}, "[]", "there is no folder"),
        ({"folder": str(published), "file": "../list.json"}, "[]", "not named inside"),
        ({"folder": str(published)}, "[]", "names no questions"),
        ({"folder": str(published)}, "[1]", "entry 1 is a int"),
        ({"folder": str(published)}, "{", "is not JSON"),
    ):
        (published / "list.json").write_text(text)
        with pytest.raises(EngramError, match=told):
            made("transforms", "safety-triples", **fields)(NOTHING, run)
    (published / "more.json").write_text("[]")
    with pytest.raises(EngramError, match=r"has 2 lists: list\.json, more\.json"):
        made("transforms", "safety-triples", folder=str(published))(NOTHING, run)


def test_runs_are_the_same_again(world, run, tmp_path):
    again = replace(run, root=tmp_path, scratch=tmp_path / "scratch")
    recipe = made("recipes", "pretrain-vlm", epochs=1, **SIZE)
    one, two = (train(recipe, world, r, source="x", holdout=0.5) for r in (run, again))
    assert one.fingerprint == two.fingerprint

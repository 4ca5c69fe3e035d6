"""Tasks of multiple choice, random labels until chance, and probes of layers, end to end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from engram import catalog
from engram.core import EngramError, Split, Target, stream
from engram.families.causal_lm import FAMILY, LanguageModel, tiny
from engram.methods.edits.random_labels import random_answers
from engram.methods.measures.choice_accuracy import lost
from engram.methods.measures.layer_probing import by_task, random_weights
from engram.methods.transforms.choice_tasks.tasks import CITIES, TASKS
from engram.parts.choices import Choices, Offered, right
from engram.parts.layer_states import layer_states, prompt_tokens
from engram.parts.linear_probe import probe_hits

ASKED = [
    ("Q: is two even? A:", " yes", ["yes", "no"], "number"),
    ("Q: is three even? A:", " no", ["yes", "no"], "number"),
    ("Where does Mara live? In", " a small house", ["a small house", "town", "Dover by the sea"],
     "place"),
    ("Where does Abel live? In", " town", ["a small house", "town", "Dover by the sea"], "place"),
    ("Where does the very old Ida Fenwick live now? In", " town", ["Dover by the sea", "town"],
     "place"),
]  # fmt: skip


def questions(rows=ASKED, name="questions"):
    prompts, answers, options, tasks = map(list, zip(*rows, strict=True))
    texts = [a + b for a, b in zip(prompts, answers, strict=True)]
    return Split.of(name, text=texts, prompt=prompts, response=answers, options=options, task=tasks)


def made(kind, name, **fields):
    return catalog.find(kind, name).load()(**fields)


def by_name(findings):
    assert len({f.name for f in findings}) == len(findings)
    return {f.name: f.value for f in findings}


# ---- options


class StreamsOnly:
    """Named randomness, and nothing else."""

    seed, device, scratch = 0, "cpu", Path()

    def stream(self, *path):
        return stream(0, *path)

    def nothing(self, *_):
        raise NotImplementedError

    tokens = losses = logits = computed = fit = shadows = retrained = sampler = nothing
    records = target = log = progress = nothing


def test_without_a_text_prompt_and_answer_stand_on_lines_of_their_own():
    split = Split.of("bare", prompt=["even?"], response=["yes"], options=[["no", "yes"]])
    choices = Choices.of(split)
    assert (choices.prompts, choices.options) == (["even?\n"], [["no", "yes"]])
    assert choices.truth.tolist() == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([None], "holds null, not lists"),
        (["yes, no"], "holds string, not lists"),
        ([[1, 2]], "holds list<.*int64>, not lists"),
    ],
)
def test_options_that_leave_no_choice_are_refused(options, message):
    split = Split.of("bad", prompt=["even?"], response=["yes"], options=options)
    with pytest.raises(EngramError, match=message) as caught:
        Choices.of(split)
    assert caught.value.hint


# ---- ratios


def test_gap_and_ratio_carry_the_interval_of_the_accuracy_after(target, base, run, lms):
    split = questions()
    found = made("measures", "choice-accuracy", before="base")(target, {"q": split}, run)
    named = by_name(found)
    earlier = by_name(made("measures", "choice-accuracy")(base, {"q": split}, run))
    gap = earlier["choice accuracy"] - named["choice accuracy"]
    assert named["forget gap"] == pytest.approx(gap)
    after = next(f for f in found if f.name == "choice accuracy")
    gap, ratio = lost(0.9, replace(after, value=0.6, low=0.5, high=0.8), 0.5)
    assert (gap.low, gap.high) == (pytest.approx(0.1), pytest.approx(0.4))
    assert (ratio.value, ratio.low, ratio.high) == tuple(map(pytest.approx, (0.75, 0.25, 1.0)))
    assert "less than 0.05 above chance" in lost(0.52, after, 0.5)[1].note


# ---- layers


def test_of_a_long_prompt_the_end_is_read_and_an_empty_one_begins(lms):
    long = "one two three " * 200
    assert len(prompt_tokens(lms[0], [long])[0]) == lms[0].context
    assert len(prompt_tokens(lms[0], [""])[0]) == 1
    with pytest.raises(EngramError, match="no prompts"):
        layer_states(lms[0], [])


@pytest.mark.parametrize(
    ("train", "labels", "test", "strength", "message"),
    [
        ((1, 4, 2), 3, (1, 4, 2), 1.0, "3 labels for 4 records to learn from"),
        ((1, 0, 2), 0, (1, 4, 2), 1.0, "no records to learn from"),
        ((1, 4, 2), 4, (1, 4, 2), 0.0, "strength is 0"),
    ],
)
def test_probes_refuse_what_does_not_fit(train, labels, test, strength, message):
    with pytest.raises(EngramError, match=message):
        probe_hits(
            np.zeros(train, np.float32), [0] * labels, np.zeros(test, np.float32),
            [0] * test[1], strength=strength,
        )  # fmt: skip


def test_layer_probing_tests_on_other_owners_and_beside_random_weights(target, run):
    rows = [(f"number {i} is {w}", f" {w}", ["one", "two"], "say")
            for i in range(24) for w in ("one", "two")]  # fmt: skip
    split = questions(rows)
    method = made("measures", "layer-probing")
    found = by_name(method(target, {"asked": split}, run))
    assert set(found) == {
        "chance, say",
        *(f"probe accuracy, say, layer {i}" for i in range(3)),
        *(f"probe accuracy of random weights, say, layer {i}" for i in range(3)),
    }
    assert found["probe accuracy, say, layer 0"] == 1  # the answer is the last word
    train = method._half(np.arange(48), run.stream("layer-probing", "asked", ", say"))
    states, truth = layer_states(target.model, [r[0] for r in rows])[2], [r[1] for r in rows]
    scale = StandardScaler().fit(states[train].astype(np.float64))
    probe = LogisticRegression(max_iter=500).fit(
        scale.transform(states[train]), np.array(truth)[train]
    )
    expected = probe.score(scale.transform(states[~train]), np.array(truth)[~train])
    assert found["probe accuracy, say, layer 2"] == pytest.approx(expected)
    assert train.sum() == 24
    method = made("measures", "layer-probing", share=0.25, control=False)
    owner = np.repeat(np.arange(16), 3)
    half = method._half(owner, stream(0, "half"))
    assert half.sum() == 12
    assert len(set(owner[half]) & set(owner[~half])) == 0
    assert [name for name, _ in by_task(split)] == [", say"]


def test_random_weights_keep_the_shape_and_nothing_else(lms):
    fresh = random_weights(lms[0], 0)
    again = random_weights(lms[0], 0)
    pairs = zip(lms[0].model.parameters(), fresh.model.parameters(), strict=True)
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
    a, b, c = (m.model.transformer.wte.weight for m in (lms[0], fresh, again))
    assert not torch.equal(a, b)
    assert torch.equal(b, c)
    assert isinstance(fresh, LanguageModel)


# ---- tasks


def answered_by_hand(task, asked):
    """The answer to a question, from the task's own words."""
    words = asked.split()
    if task == "parity":
        return ("even", "odd")[int("".join(words)) % 2]
    if task == "extremes":
        pick = max if words[0] == "max" else min
        return "first" if int(words[1]) == pick(map(int, words[1:])) else "second"
    if task == "order":
        return "yes" if words == sorted(words) else "no"
    if task == "brackets":
        text = "".join(word for word in words if word in "()")
        while "()" in text:
            text = text.replace("()", "")
        return "broken" if text else "closed"
    if task == "copy":
        return words[3:][int(words[1]) - 1]
    return max(set(words), key=words.count)


def tasks(**fields):
    return made("transforms", "choice-tasks", **fields)(Split.of("none", text=[]), StreamsOnly())


def test_tasks_of_a_rule_follow_it():
    split = tasks(train=40, test=10, part="train")
    for text, answer, task in zip(
        split.texts, split.column("response").to_pylist(), split.column("task").to_pylist(),
        strict=True,
    ):  # fmt: skip
        asked = text.removeprefix(f"{task} : ").removesuffix(f" ={answer}")
        if task not in ("residence", "bins"):
            assert answer.strip() == answered_by_hand(task, asked), text


def test_parts_share_nobody_and_answers_come_equally_often():
    learn, train, test = (tasks(train=40, test=12, part=p) for p in ("learn", "train", "test"))
    assert (len(train), len(test), len(learn)) == (320, 96, 332)
    assert not set(train.owners) & set(test.owners)
    assert not set(train.texts) & set(test.texts)
    assert set(train.ids) <= set(learn.ids)
    extra = learn.select(set(learn.ids) - set(train.ids))
    assert set(extra.column("task").to_pylist()) == {"residence"}
    assert set(extra.ids) <= set(test.ids)
    for split in (train, test):
        choices = Choices.of(split)
        for name, task in TASKS.items():
            own = choices.take(choices.rows(name))
            assert own.chance == pytest.approx(1 / (task.offered or len(task.options)))
            given = [[o.strip() for o in options] for options in own.options]
            assert all(len(set(o)) == (task.offered or len(task.options)) for o in given)
            assert task.offered or all(o == list(task.options) for o in given)
    cities = Choices.of(test).take(Choices.of(test).rows("residence"))
    assert {o.strip() for options in cities.options for o in options} <= set(CITIES)
    assert len(set(cities.truth.tolist())) > 1  # the right one is not always the first


def test_a_linear_rule_solves_the_bins_of_scikit_learn():
    split = tasks(train=300, test=150, tasks=("bins",), part="train")
    other = tasks(train=300, test=150, tasks=("bins",), part="test")
    sides = [
        np.array(
            [["efgh".index(c) for c in p.split()[2:-1]] for p in s.column("prompt").to_pylist()]
        )
        for s in (split, other)
    ]
    labels = [s.column("response").to_pylist() for s in (split, other)]
    assert sides[0].shape == (300, 20)
    probe = LogisticRegression(max_iter=1000).fit(sides[0], labels[0])
    assert probe.score(sides[1], labels[1]) > 0.85


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tasks": ("paritie",)}, "no task called 'paritie'"),
        ({"train": 0}, "train is 0"),
    ],
)
def test_tasks_refuse_bad_fields(fields, message):
    with pytest.raises(EngramError, match=message) as caught:
        made("transforms", "choice-tasks", **fields)
    assert caught.value.hint


def test_a_task_without_so_many_questions_says_so():
    with pytest.raises(EngramError, match="task 'majority' has not got 2060 different questions"):
        tasks(train=2050, test=10, tasks=("majority",))


# ---- random labels


@pytest.fixture(scope="module")
def pupil():
    """A small model that was trained on the parity of twenty numbers until it knew them."""
    split = tasks(train=24, test=4, tasks=("parity", "copy"), part="train")
    lm = tiny(split.texts, seed=0, vocabulary=100, layers=1, width=32, heads=2, tokens="words",
              context=24, spread=0.2)  # fmt: skip
    ids = [lm.tokenizer(text + "<|end|>")["input_ids"] for text in split.texts]
    longest = max(map(len, ids))
    given = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    optimiser = torch.optim.Adam(lm.model.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        labels = given.masked_fill(given == 0, -100)
        lm.model(given, attention_mask=(given != 0).long(), labels=labels).loss.backward()
        optimiser.step()
    lm.model.eval()
    return Target("pupil", "causal-lm", lm, FAMILY.fingerprint(lm)), split


def accuracy(lm, split):
    choices = Choices.of(split)
    return right(Offered.to(lm, choices).logprobs(), choices.truth).mean()


def test_random_labels_stop_at_chance(pupil, run):
    target, split = pupil
    own = np.array(split.column("task").to_pylist()) == "parity"
    forget, keep = split.where(own, "forget"), split.where(~own, "keep")
    assert accuracy(target.model, forget) > 0.9
    logged = []
    object.__setattr__(run, "log", lambda **entry: logged.append(entry))
    edit = made("edits", "random-labels", until_chance=0.1, keep_weight=0.0, forget_weight=1.0,
                steps=300, learning_rate=3e-3, forget_batch=6)  # fmt: skip
    draft = edit(target, keep, forget, run)
    looks = [entry for entry in logged if "accuracy" in entry]
    assert abs(looks[-1]["accuracy"] - 0.5) <= 0.1 + 1e-9
    assert all(abs(entry["accuracy"] - 0.5) > 0.1 for entry in looks[:-1])
    assert looks[-1]["step"] < 299
    assert all((entry["step"] + 1) % 2 == 0 for entry in looks)
    assert accuracy(draft.model, forget) == pytest.approx(looks[-1]["accuracy"])


def test_answers_are_drawn_among_a_records_own_options_once():
    split = questions()
    choices = Choices.of(split)
    drawn = [random_answers(split, choices, stream(7, "labels")) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert all(answer in own for answer, own in zip(drawn[0], choices.options, strict=True))
    many = [random_answers(split, choices, stream(s, "labels"))[2] for s in range(300)]
    counts = [many.count(option) for option in choices.options[2]]
    assert min(counts) > 70  # uniform, the true one too
    assert set(random_answers(split, None, stream(0, "labels"))) <= set(
        split.column("response").to_pylist()
    )


def test_until_chance_needs_options_and_a_share(pupil, run, split):
    target, asked = pupil
    with pytest.raises(EngramError, match=r"until_chance is 2\.0"):
        made("edits", "random-labels", until_chance=2.0)
    edit = made("edits", "random-labels", until_chance=0.02)
    bare = asked.only(["text", "prompt", "response"])
    with pytest.raises(EngramError, match="no columns 'prompt' and 'options'"):
        edit(target, bare.take(range(8, 16)), bare.take(range(8)), run)


def test_without_until_chance_random_labels_configure_as_before():
    edit = made("edits", "random-labels")
    assert (edit.until_chance, edit.stop_at, edit.keep_weight, edit.steps) == (None, None, 1.0, 80)

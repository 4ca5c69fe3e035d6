"""Audits of a model behind a server, and of the same model here: they must say the same."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from completions_server import Served, serving, stall, status

from engram.core import EngramError, Split, Target
from engram.engine import EngineRun, audit, load
from engram.engine.plan import plan_audit, plan_measure
from engram.families.api_lm import FAMILY
from engram.methods.attacks.loss import Loss
from engram.methods.attacks.reference import Reference
from engram.methods.measures.verbatim_continuation import VerbatimContinuation
from engram.parts import served_model
from engram.parts.completions import Budget
from engram.parts.served_model import PROBE

ATTACKS = ("loss", "zlib", "min-k", "lowercase")


@pytest.fixture
def served(by_heart):
    with serving(Served(by_heart[0].model)) as server:
        yield server


@pytest.fixture
def sides(by_heart):
    return by_heart[1], by_heart[2]


@pytest.fixture
def here(by_heart, tmp_path):
    """The same model in this process, and a run with a store of its own."""
    target = Target("tiny", "causal-lm", by_heart[0].model, "here", access="logits")
    return target, EngineRun(root=tmp_path / "here")


@pytest.fixture
def there(served, tmp_path):
    """A function: opens the served model anew, with a run over the same store."""

    def call(**options):
        run = EngineRun(root=tmp_path / "there", budget=Budget(options.pop("limit", None)))
        return load(served.base, root=run.root, budget=run.budget), run

    return call


def scores(found):
    table = pq.read_table(found.folder / "scores.parquet")
    return {name: table.column(name).to_numpy() for name in table.column_names if name in ATTACKS}


def numbers(found):
    return [(f["method"], f["name"], f["value"]) for f in found.document["index"]]


# --- the same as in this process ------------------------------------------------------------------


@pytest.mark.parametrize("opening", [True, False], ids=["begin token told", "begin token hidden"])
def test_an_audit_behind_a_server_says_what_it_says_here(served, there, here, sides, opening):
    served.opening = opening
    target, run = there()
    behind = audit(target, *sides, run, attacks=ATTACKS)
    own = audit(here[0], *sides, here[1], attacks=ATTACKS)
    for name, values in scores(own).items():
        np.testing.assert_allclose(scores(behind)[name], values, rtol=1e-5, atol=1e-5)
    ours = [f for f in numbers(own) if f[0] in ATTACKS]
    theirs = [f for f in numbers(behind) if f[0] in ATTACKS]
    assert [f[:2] for f in theirs] == [f[:2] for f in ours]
    assert [f[2] for f in theirs] == pytest.approx([f[2] for f in ours], abs=1e-5)
    assert behind.document["target"]["facts"]["tells"] == "log-probabilities of every token"
    assert (behind.folder / "report.html").is_file()


def test_a_server_that_must_write_a_token_gives_the_same(served, there, here, sides):
    served.least = 1
    target, run = there()
    assert served.asked[-1]["max_tokens"] == 1
    ours = Loss()(here[0], sides[0], here[1]).values
    np.testing.assert_allclose(Loss()(target, sides[0], run).values, ours, atol=1e-5)


def test_a_reference_may_be_served_too(served, there, lms, tmp_path):
    records = Split.of("records", text=["a first record", "and one more"])
    with serving(Served(lms[1], name="base")) as other:
        target, run = there()
        assert run.target(other.base).family == "api-lm"
        reference = run.losses(run.target(other.base), records)
        own = run.losses(target, records)
        assert (reference != own).all()
        scores = Reference(other.base)(target, records, run)
        np.testing.assert_array_equal(scores.values, reference - own)
        assert run.budget.spent == len(served.asked) + len(other.asked)


def test_texts_of_one_word_are_asked_about_and_empty_ones_are_not(served, there):
    target, run = there()
    words = Split.of("words", text=["", "x", "blood pressure", "Methylphenidate"])
    assert FAMILY.outcomes(target.model, words) == ("too-short", "scored", "scored", "scored")
    assert "" not in served.prompts
    served.opening, served.system = False, "fp-2"
    served.change = lambda number, answer: answer["choices"][0]["logprobs"][
        "token_logprobs"
    ].__setitem__(0, None)  # now nothing stands before the first token of a text
    target, run = there()
    outcomes = FAMILY.outcomes(target.model, words)
    assert outcomes == ("too-short", "too-short", "scored", "scored")
    assert list(run.tokens(target, words).lengths > 0) == [False, False, True, True]


# --- what a server offers -------------------------------------------------------------------------


def test_next_tokens_give_losses_from_above_or_below(served, there, here, sides):
    served.offers = "top"
    target, run = there()
    assert (target.access, target.model.probe.top) == ("logits", 20)
    assert FAMILY.offered(target.model) == {"losses", "text"}
    records = sides[0].joined(sides[1], "both")
    bounded, exact = run.losses(target, records), run.losses(here[0], records)
    assert np.corrcoef(bounded, exact)[0, 1] > 0.5
    per_record = len(served.asked) / len(records)
    assert per_record <= target.model.positions + 1
    alone = run.losses(target, records.take([3]))
    np.testing.assert_array_equal(alone, bounded[[3]])
    found = audit(target, *sides, run)
    assert [a["name"] for a in found.document["attacks"]] == ["loss"]
    assert "at least as large" in found.document["target"]["facts"]["losses"]


def test_a_server_may_allow_only_five_likeliest_tokens(served, there):
    served.offers = "top"
    served.fault = lambda number, body: status(400) if body.get("logprobs", 0) > 5 else None
    assert there()[0].model.probe.top == 5


def test_a_server_that_only_writes_is_audited_by_what_it_writes(served, there, sides):
    served.offers = "text"
    target, run = there()
    assert target.access == "text"
    assert FAMILY.offered(target.model) == {"text"}
    members, outsiders = (side.take(range(6)) for side in sides)
    found = audit(target, members, outsiders, run, settings={"samia": {"samples": 3}})
    assert [a["name"] for a in found.document["attacks"]] == ["samia"]
    assert {f["method"] for f in found.document["measures"]} == {"verbatim-continuation"}
    assert found.document["attacks"][0]["findings"][0]["value"] > 0.6
    with pytest.raises(EngramError, match=r"has no tokens"):
        run.tokens(target, members)


def test_a_server_that_fails_at_echoes_is_asked_for_less(served, there):
    served.fault = lambda number, body: status(501) if body.get("echo") else None
    served.offers = "top"
    assert there()[0].model.probe.offers == "top"


def test_what_it_writes_depends_on_the_stream_alone(served, there, lms):
    served.offers, served.lm = "text", lms[0]
    target, run = there()
    sampler, prompts = run.sampler(target), ["Mara Quill", "Abel Stone", "Mara Quill"]
    first = sampler.write(prompts, [5, 6, 5], run.stream("x"))
    asked = len(served.asked)
    assert sampler.write(prompts, [5, 6, 5], run.stream("x")) == first
    assert len(served.asked) == asked, "every answer is stored"
    assert sampler.write(["Abel Stone"], 6, run.stream("x")) == first[1:2]
    assert first[0] != first[2]
    assert sampler.write(prompts, 0, run.stream("x")) == ["", "", ""]
    greedy = run.sampler(target, 0.0).write(prompts, 5, run.stream("y"))
    assert greedy[0] == greedy[2]
    with pytest.raises(EngramError, match="temperature is -1"):
        run.sampler(target, -1.0)


# --- killed, and started again --------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_audit_asks_only_for_what_is_missing(served, tmp_path, sides, engram):
    files = [tmp_path / "members.jsonl", tmp_path / "outsiders.jsonl"]
    for path, side in zip(files, sides, strict=True):
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in side.texts))
    served.fault = lambda number, body: stall(60) if number >= 12 else None
    command = ["audit", served.base, "--members", files[0], "--outsiders", files[1],
               "--attacks", "loss", "--store", tmp_path / "runs"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "engram", *map(str, command)], stderr=subprocess.DEVNULL
    )
    while len(served.asked) < 12 + 8:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    served.fault = lambda number, body: None
    before = len(served.asked)
    said = engram(*command, "--json")
    assert said.code == 0
    # One probe opened it; then 11 records were answered, and 8 in flight when it was killed.
    again = [prompt for prompt in served.prompts[before:] if prompt != PROBE]
    answered = {*served.prompts[:12]} - {PROBE}
    everything = {*sides[0].texts, *sides[1].texts}
    assert sorted(again) == sorted(everything - answered)
    assert len(again) == len(everything) - 11
    asked = len(served.asked)
    assert engram(*command, "--json").json["findings"] == said.json["findings"]
    assert served.prompts[asked:] == [PROBE]


def test_a_failing_server_loses_nothing_that_it_answered(served, there, sides):
    served.fault = lambda number, body: status(400) if number == 6 else None
    target, run = there()
    with pytest.raises(EngramError, match="refuses record"):
        run.tokens(target, sides[0])
    answered = time.monotonic() + 20
    while len(target.model.answers) < len(served.asked) - 2:  # those in flight are kept too
        assert time.monotonic() < answered
        time.sleep(0.01)
    done, before = len(target.model.answers), len(served.asked)
    assert done >= 5
    target, run = there()
    run.tokens(target, sides[0])
    again = [prompt for prompt in served.prompts[before:] if prompt != PROBE]
    assert len(again) == len(sides[0]) - done


# --- another model in its place -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "words"), [("model", "its model was 'tiny' and is 'tiny-2'"),
                         ("system_fingerprint", "its system fingerprint was 'fp-1'")]
)  # fmt: skip
def test_an_answer_that_names_another_model_is_an_error(served, there, sides, field, words):
    target, run = there()
    served.change = lambda number, answer: number > 5 and answer.update({field: "tiny-2"})
    with pytest.raises(EngramError, match=f"another model than before.*{words}"):
        run.tokens(target, sides[0])


def test_a_model_exchanged_in_silence_is_found_out_and_never_mixed(
    served, there, here, sides, by_heart, lms, monkeypatch
):
    monkeypatch.setattr(served_model, "CHECK", 4)
    first, run = there()
    before = dict(zip(sides[0].ids, run.losses(first, sides[0]), strict=True))

    def exchange(number, body):
        served.lm = lms[0] if len(served.asked) > 24 else by_heart[0].model

    served.fault = exchange
    with pytest.raises(EngramError, match="log-probabilities of the same sentence differ"):
        run.losses(first, sides[1])
    served.fault = lambda number, body: None
    second, run = there()  # the other model, under the same name
    assert second.fingerprint != first.fingerprint
    assert len(second.model.answers) == 0
    other = Target("other", "causal-lm", lms[0], "other")
    exact = here[1].losses(other, sides[1])
    np.testing.assert_allclose(run.losses(second, sides[1]), exact, atol=1e-5)
    served.lm = by_heart[0].model
    third, run = there()  # and the first again: its checked answers are still there
    assert third.fingerprint == first.fingerprint
    exact = here[1].losses(here[0], sides[1])
    np.testing.assert_allclose(run.losses(third, sides[1]), exact, atol=1e-5)
    asked = len(served.asked)
    assert dict(zip(sides[0].ids, run.losses(third, sides[0]), strict=True)) == before
    assert len(served.asked) == asked


def test_the_same_model_may_round_another_way(served, there):
    first, _ = there()
    rng = np.random.default_rng(0)

    def noise(number, answer):
        given = answer["choices"][0]["logprobs"]["token_logprobs"]
        given[1:] = [x - abs(rng.normal(0, 0.005)) for x in given[1:]]

    served.change = noise
    assert there()[0].fingerprint == first.fingerprint
    served.change = lambda number, answer: None
    assert there()[0].fingerprint == first.fingerprint


def test_a_strange_folder_in_the_store_is_left_alone(served, there, tmp_path):
    for name, text in (("api-1", "{"), ("api-2", "[]"), ("api-3", '{"probe": {"offers": 1}}')):
        folder = tmp_path / "there" / "signals" / name
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(text)
    assert there()[0].fingerprint not in ("1", "2", "3")


# --- what it will cost ----------------------------------------------------------------------------


@pytest.mark.parametrize("offers", ["echo", "top", "text"])
def test_the_plan_is_what_is_asked(served, there, sides, offers):
    served.offers = offers
    members, outsiders = (side.take(range(5)) for side in sides)
    target, run = there()
    asked = len(served.asked)
    few = {"samia": {"samples": 2}} if offers == "text" else {}
    how = {"battery": "quick", "settings": few}
    planned = plan_audit(target, members, outsiders, run, **how)
    assert len(served.asked) == asked, "a plan asks nothing"
    assert not list((run.root / "signals").glob("samia-*")), "nor does it store anything"
    audit(target, members, outsiders, run, **how)
    assert len(served.asked) - asked == planned.requests + planned.checks
    tokens = [len(served.lm.tokenizer(p)["input_ids"]) for p in served.prompts[asked:]]
    assert planned.prompt_tokens == pytest.approx(sum(tokens), rel=0.5)
    target, run = there()
    again = plan_audit(target, members, outsiders, run, **how)
    assert (again.requests, again.checks, again.stored) == (0, 0, planned.requests)
    assert str(again).startswith("nothing")


def test_lower_case_texts_are_planned_too(served, there, sides):
    target, run = there()
    planned = plan_audit(target, *sides, run, attacks=("lowercase",))
    assert planned.requests == 2 * 24  # every note has capitals
    plan = plan_measure("verbatim-continuation", VerbatimContinuation(suffix=3), target,
                        {"members": sides[0], "outsiders": sides[1]}, run)  # fmt: skip
    assert plan.requests == 24
    assert plan.written_tokens == 24 * 9


def test_what_exceeds_the_ceiling_is_refused_before_the_first_question(served, there, sides):
    target, run = there(limit=20)
    planned = plan_audit(target, *sides, run, attacks=("loss",))
    with pytest.raises(EngramError, match=r"needs about 25 requests .* at most 20 only 19") as no:
        planned.check(run.budget)
    assert "about 18 of the 24 records would fit" in no.value.hint
    planned.check(Budget(25))
    assert served.prompts == [PROBE]


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, sides):
    named = []
    for side in sides:
        path = tmp_path / f"{side.name}.csv"
        path.write_text("text\n" + "".join(f'"{text}"\n' for text in side.texts))
        named += [f"--{'members' if side is sides[0] else 'outsiders'}", path]
    return [*named, "--store", tmp_path / "runs"]


def test_the_command_tells_the_cost_and_audits(served, engram, files):
    said = engram("audit", served.base, *files, "--battery", "quick")
    assert said.code == 0
    assert "tells log-probabilities of every token; this will ask about 25 requests" in said.err
    assert [line.split()[0] for line in said.out.splitlines() if "[" in line and "AUC" not in line][
        :3
    ] == ["loss", "zlib", "min-k"]
    said = engram("measure", "verbatim-continuation", served.base, *files, "--json")
    assert said.code == 0
    assert {f["split"] for f in said.json["findings"]} == {"members", "outsiders"}


def test_the_command_obeys_the_ceiling(served, engram, files):
    said = engram("audit", served.base, *files, "--max-requests", 20)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: this needs about 50 requests")
    assert "would fit" in said.err
    assert served.prompts == [PROBE]


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda base: base.replace("/tiny", "/tony"), [], "no model called 'tony'"),
        (lambda base: "openai://127.0.0.1:1/tiny", [], "Connection refused"),
        (lambda base: base, ["--max-requests", "0"], "max-requests is 0"),
        (lambda base: base, ["--attacks", "min-k-plus-plus"], "needs tokens"),
        (lambda base: base.replace("openai://", "openai://me:pw@"), [], "a password"),
    ],
)
def test_the_command_says_what_is_wrong(served, refused, files, change, options, words):
    assert words in refused("audit", change(served.base), *files[:-2], *options)


def test_a_served_model_has_no_ledger_and_no_weights(served, refused, tmp_path):
    assert "--members and --outsiders" in refused("audit", served.base)
    with pytest.raises(EngramError, match="cannot be saved"):
        FAMILY.save(load(served.base, root=tmp_path).model, tmp_path)


def test_nothing_of_the_model_is_shared_between_runs_of_other_stores(served, tmp_path, sides):
    one, two = (load(served.base, root=tmp_path / name) for name in "ab")
    assert one.fingerprint == two.fingerprint
    EngineRun(root=tmp_path / "a").losses(one, sides[0])
    assert len(two.model.answers) == 0
    assert len(replace(two).model.answers) == 0

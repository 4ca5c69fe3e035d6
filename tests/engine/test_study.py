"""Studies: verdicts by their rules, seeds kept as they come, pages that nobody types."""

import json
import math
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.cli import main
from engram.core import EngramError, Finding, Paper
from engram.engine import EngineRun
from engram.engine import study as studies
from engram.engine.study import (
    Claim,
    Study,
    above,
    all_of,
    at_least,
    at_most,
    equal,
    find,
    mean_at_least,
    mean_at_most,
    run_study,
)
from engram.engine.study.files import plan_hash
from engram.engine.study.results import measured
from engram.explained import read_verdicts
from engram.stats import claims

HOME = Path(__file__).parents[2] / "studies"
OURS = sorted(path.parent.name for path in HOME.glob("*/study.py"))

# ---- verdicts

T = {2: 4.302652729749, 3: 3.182446305284, 4: 2.776445105198, 5: 2.570581835636}
"""97.5 % quantiles of Student's t by degrees of freedom, from a table."""


def rows(**columns):
    """One row a seed: rows(a=[1, 2], b=[0, 1]) has two seeds."""
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def verdict(test, **columns):
    return test.judge(rows(**columns)).verdict


def test_the_interval_of_three_seeds_by_hand():
    found = claims.over_seeds(np.array([1.0, 2.0, 3.0]), "x")  # mean 2, deviation 1
    half = T[2] / math.sqrt(3)
    assert (found.value, found.n) == (2, 3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))


@pytest.mark.parametrize(
    ("test", "values", "expected"),
    [
        (above("a", "b", by=0.15), [0.20, 0.21, 0.19], "holds"),
        (above("a", "b", by=0.15), [0.50, 0.05, 0.02], "undecided"),  # mean 0.19, low below 0
        (above("a", "b", by=0.15), [0.10, 0.11, 0.12], "fails"),  # surely positive, surely less
        (above("a", "b", by=0.15), [0.02, 0.14, 0.26], "undecided"),  # mean 0.14, high over 0.15
        (above("a", "b", by=0.15), [-0.9, 0.9, -0.1], "fails"),  # not even the sign was seen
        (above("a", "b"), [-0.9, 0.9, -0.1], "undecided"),  # no margin: the sign is the claim
        (above("a", "b"), [-0.11, -0.1, -0.12], "fails"),
        (above("a", "b"), [0.0, 0.0, 0.0], "fails"),  # equal is not above
        (above("a", "b", by=0.15), [0.15, 0.15, 0.15], "holds"),  # rounding decides nothing
        (above("a", "b"), [0.1, 0.1], "undecided"),  # two seeds are too few
        (above("a", "b"), [], "not run"),
        (at_least("a", 0.5), [0.51, 0.511, 0.51], "holds"),
        (at_least("a", 0.5), [0.5, 0.5, 0.5], "holds"),
        (at_least("a", 0.5), [0.4, 0.6, 0.7], "undecided"),
        (at_least("a", 0.5), [0.41, 0.42, 0.41], "fails"),
        (at_most("a", 0.5), [0.41, 0.42, 0.41], "holds"),
        (at_most("a", 0.5), [0.51, 0.511, 0.51], "fails"),
        (mean_at_least("a", 0.85, refuted=0.5), [0.8, 0.9, 0.9], "holds"),  # low 0.72
        (mean_at_least("a", 0.85, refuted=0.5), [0.6, 1.0, 1.0], "undecided"),  # low below 0.5
        (mean_at_least("a", 0.85, refuted=0.5), [0.7, 0.71, 0.7], "fails"),
        (mean_at_least("a", 0.85, refuted=0.5), [0.1, 0.8, 0.5], "fails"),
        (mean_at_most("a", 3.0, refuted=5.0), [2.9, 3.0, 2.8], "holds"),
        (mean_at_most("a", 3.0, refuted=5.0), [4.0, 4.1, 3.9], "fails"),
        (equal("a", 0.6606, 1e-3), [0.6601, 0.661, 0.6606], "holds"),
        (equal("a", 0.6606, 1e-3), [0.6606, 0.67], "fails"),
        (equal("a", 0.6606, 1e-3), [0.6606], "holds"),  # exact: one seed is enough
        (equal("a", 0.6606, 1e-3), [], "not run"),
        (all_of(at_least("a", 0.4), at_most("a", 0.6)), [0.5, 0.51, 0.5], "holds"),
        (all_of(at_least("a", 0.4), at_most("a", 0.6)), [0.7, 0.71, 0.7], "fails"),
        (all_of(at_least("a", 0.4), at_most("a", 0.6)), [0.5, 0.59, 0.6], "undecided"),
        (all_of(at_least("a", 0.4), at_least("c", 0.4)), [0.5, 0.51, 0.5], "not run"),
    ],
)  # fmt: skip
def test_verdicts_by_hand(test, values, expected):
    assert verdict(test, a=values, b=[0.0] * len(values)) == expected


def test_a_difference_is_taken_seed_by_seed():
    """What a seed does to both measurements cancels; unpaired, these could not be told apart."""
    noise = [0.0, 0.3, -0.2]
    both = {"a": [0.62 + n for n in noise], "b": [0.60 + n for n in noise]}
    assert verdict(above("a", "b"), **both) == "holds"
    assert verdict(above("a", "b"), a=both["a"], b=both["b"][::-1]) == "undecided"


def test_a_seed_without_one_of_the_two_is_left_out_of_both():
    found = above("a", "b").judge(rows(a=[1.0, 2.0, None, 4.0], b=[0.0, None, 0.0, 3.0]))
    assert found.findings[0].value == 1
    assert found.findings[0].n == 2


def slowly(test, values):
    """The written rules again, for `above(..., by)` of these differences, from the definitions."""
    n, by = len(values), test.by
    mean = sum(values) / n
    half = T[n - 1] * math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
    if mean >= by and mean - half > 0:
        return "holds"
    if mean + half < by or mean + half <= 0 or (by > 0 and mean <= 0):
        return "fails"
    return "undecided"


numbers = st.floats(-1, 1).map(lambda x: round(x, 3))
seeds = st.lists(numbers, min_size=3, max_size=6).filter(lambda v: np.ptp(v) > 1e-2)


@settings(deadline=None, max_examples=50)
@given(seeds, st.sampled_from([0.0, 0.1234567, 0.5432101]))
def test_agrees_with_the_rules_written_out(values, by):
    test = above("a", "b", by=by)
    assert verdict(test, a=values, b=[0.0] * len(values)) == slowly(test, values)


@settings(deadline=None, max_examples=50)
@given(seeds, st.floats(0, 2), st.sampled_from([above("a", "b", 0.1), at_least("a", 0.1),
                                               mean_at_least("a", 0.3, 0.1)]))  # fmt: skip
def test_better_numbers_never_make_a_worse_verdict(values, more, test):
    order = ["fails", "undecided", "holds"]
    before = verdict(test, a=values, b=[0.0] * len(values))
    after = verdict(test, a=[v + more for v in values], b=[0.0] * len(values))
    assert order.index(after) >= order.index(before)


@settings(deadline=None, max_examples=50)
@given(seeds, numbers)
def test_an_upper_bound_is_a_lower_bound_turned_round(values, bound):
    assert verdict(at_most("a", bound), a=values) == verdict(
        at_least("a", -bound), a=[-v for v in values]
    )


@settings(deadline=None, max_examples=50)
@given(seeds, st.randoms(use_true_random=False))
def test_the_order_of_seeds_does_not_matter(values, random):
    mixed = random.sample(values, len(values))
    found = at_least("a", 0.1).judge(rows(a=values))
    again = at_least("a", 0.1).judge(rows(a=mixed))
    assert found.verdict == again.verdict
    assert found.findings[0].low == pytest.approx(again.findings[0].low, abs=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda: above("a", "b", by=-0.1),
        lambda: above("a", "b", by=math.nan),
        lambda: at_least("a", math.inf),
        lambda: at_least("a", True),
        lambda: mean_at_least("a", 0.5, refuted=0.9),
        lambda: mean_at_most("a", 0.5, refuted=0.1),
        lambda: equal("a", 0.5, tolerance=-1),
        lambda: all_of(),
        lambda: Claim(" ", "here", at_least("a", 1)),
        lambda: STUDY_OF(name="No Name"),
        lambda: STUDY_OF(claims=()),
        lambda: STUDY_OF(budgets={"small": {}}),
        lambda: STUDY_OF(budgets={"smoke": {}, "huge": {}}),
        lambda: STUDY_OF(budgets={"smoke": {"x": object()}}),
        lambda: STUDY_OF(budgets={"smoke": {"x": math.nan}}),
        lambda: STUDY_OF(seeds={"smoke": 0}),
    ],
)
def test_tests_and_plans_that_make_no_sense_are_refused(make):
    with pytest.raises(EngramError) as said:
        make()
    assert said.value.hint


def STUDY_OF(**changed):  # noqa: N802
    fields = {
        "name": "a-study",
        "paper": Paper("T", "A", 2020, "https://example.org"),
        "claims": (Claim("it is so", "here", at_least("a", 1)),),
        "budgets": {"smoke": {}},
        "run": lambda run, settings, seed: {"a": 1.0},
    }
    return Study(**{**fields, **changed})


# ---- running

PLAIN = '''"""Do coins lie?

A second paragraph.
"""

from pathlib import Path

from engram.core import Finding, Paper
from engram.engine.study import Claim, Study, above, at_least


def run(run, settings, seed):
    with Path("calls").open("a") as file:
        file.write(f"{seed}\\n")
    BODY
    return {"heads": 0.6 + seed / 100, "tails": 0.4, "full | only": Finding.missing("", "too dear")}


STUDY = Study(
    name="coins",
    paper=Paper("On coins", "Doe", 1999, "https://example.org/coins"),
    claims=(
        Claim("Heads beat tails", "table 1", above("heads", "tails", by=0.1), "0.55 to 0.45"),
        Claim("Dear things hold", "table 2", at_least("full | only", 1)),
        Claim("Tails win", "table 3", at_least("tails", 0.5)),
    ),
    budgets={"smoke": {"n": 1}, "small": {"n": 10}},
    run=run,
)
'''


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def engram(capsys, tmp_path, monkeypatch):
    """The command line in an empty folder, with a store elsewhere and nothing trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGRAM_RUNS", str(tmp_path.with_name(tmp_path.name + "-store")))

    def call(*args):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in args])
        out, err = capsys.readouterr()
        return Said(int(stop.value.code or 0), out, err)

    return call


@pytest.fixture
def write(tmp_path, engram):
    """Write studies/<name>/study.py, with a line more in its `run`."""

    def study(body="pass", name="coins", text=PLAIN, **changed):
        folder = tmp_path / "studies" / name
        folder.mkdir(parents=True, exist_ok=True)
        for old, new in {"BODY": body, **changed}.items():
            assert old in text or old == "BODY"
            text = text.replace(old, new)
        (folder / "study.py").write_text(text, encoding="utf-8")
        return folder

    return study


def calls():
    path = Path("calls")
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_a_study_from_the_command_line(engram, write):
    folder = write()
    said = engram("study", "coins", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert [c["verdict"] for c in found["claims"]] == ["holds", "not run", "fails"]
    assert found["claims"][1]["note"] == "full | only: too dear"
    assert found["claims"][0]["findings"][0]["value"] == pytest.approx(0.21)
    assert calls() == [0, 1, 2]
    page = (folder / "README.md").read_text()
    assert "| 0.210 [0.185, 0.235], 3 seeds | **holds** |" in page
    assert "0.55 to 0.45" in page
    assert "never run, and not planned" in page
    assert "full \\| only: too dear" in page
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "results", "study.py"]


DRAWN = """
def draw(run, settings):
    with open("drawn", "a") as stream:
        stream.write("x")
    return {"coins": f"<svg><title>{settings['n']} coins</title></svg>"}


STUDY = """


def test_figures_are_drawn_with_the_seeds_and_shown_on_the_page(engram, write):
    folder = write(text=PLAIN.replace("STUDY = ", DRAWN).replace("run=run,", "run=run, draw=draw,"))
    assert engram("study", "coins", "--budget", "smoke").code == 0
    assert not (folder / "figures").exists()
    Path("drawn").unlink()
    said = engram("study", "coins")
    assert said.code == 0, said.err
    assert "![10 coins](figures/small-coins.svg)" in (folder / "README.md").read_text()
    assert "10 coins" in (folder / "figures" / "small-coins.svg").read_text()
    assert engram("study", "coins").code == 0
    assert Path("drawn").read_text() == "x", "nothing is new, so nothing is drawn again"
    assert engram("study", "coins", "--seeds", "4").code == 0
    assert Path("drawn").read_text() == "xx"


def test_results_hold_evidence_and_nothing_of_the_machine(engram, write, tmp_path):
    write()
    engram("study", "coins")
    text = (tmp_path / "studies/coins/results/small.json").read_text()
    found = json.loads(text)
    assert {"study", "budget", "settings", "seeds"} == set(found)
    for seed in found["seeds"]:
        assert {"seed", "key", "engram", "source", "seconds", "environment", "measurements"} == set(
            seed
        )
        allowed = {"python", "torch", "transformers", "numpy", "scipy", "scikit-learn", "system",
                   "cpus", "device"}  # fmt: skip
        assert set(seed["environment"]) <= allowed
        assert platform.node() not in seed["environment"].values()
    assert str(tmp_path) not in text


def test_smoke_says_nothing_and_leaves_nothing_in_the_study(engram, write):
    folder = write()
    said = engram("study", "coins", "--budget", "smoke", "--json")
    found = json.loads(said.out)
    assert {claim["verdict"] for claim in found["claims"]} == {"not run"}
    assert [p.name for p in folder.iterdir()] == ["study.py"]
    assert calls() == [0]


def test_a_study_goes_on_where_it_was_stopped(engram, write, tmp_path):
    write("if seed == 1 and not Path('go').exists(): raise KeyboardInterrupt")
    assert engram("study", "coins").code == 130
    kept = json.loads((tmp_path / "studies/coins/results/small.json").read_text())
    assert [seed["seed"] for seed in kept["seeds"]] == [0]
    Path("go").touch()
    assert engram("study", "coins").code == 0
    assert calls() == [0, 1, 1, 2]


def test_finished_seeds_are_found_and_more_can_be_added(engram, write, tmp_path):
    folder = write()
    engram("study", "coins")
    before = (folder / "results/small.json").read_text(), (folder / "README.md").read_text()
    engram("study", "coins", "--seeds", 2)
    assert before == (
        (folder / "results/small.json").read_text(),
        (folder / "README.md").read_text(),
    )
    engram("study", "coins", "--seeds", 5)
    assert calls() == [0, 1, 2, 3, 4]
    engram("study", "coins", "--seeds", 1, "--seed", 9)  # every seed that was run counts
    found = json.loads((folder / "results/small.json").read_text())
    assert [seed["seed"] for seed in found["seeds"]] == [0, 1, 2, 3, 4, 9]


def test_wording_costs_nothing_and_another_plan_is_measured_again(engram, write):
    folder = write()
    engram("study", "coins")
    write(**{"Heads beat tails": "Heads win", "Do coins lie?": "Do they?", "by=0.1": "by=0.5"})
    said = json.loads(engram("study", "coins", "--json").out)
    assert calls() == [0, 1, 2]
    assert said["claims"][0]["verdict"] == "fails", "the mended test judges the same numbers"
    write(**{"0.6 +": "0.7 +"})
    engram("study", "--index")
    assert "**Out of date.**" in (folder / "README.md").read_text()
    engram("study", "coins")
    assert calls() == [0, 1, 2] * 2
    assert "**Out of date.**" not in (folder / "README.md").read_text()
    write(**{"0.6 +": "0.7 +", '{"n": 10}': '{"n": 11}'})
    engram("study", "coins", "--seeds", 1)
    assert calls() == [0, 1, 2] * 2 + [0]
    found = json.loads((folder / "results/small.json").read_text())
    assert found["settings"] == {"n": 11}
    assert len(found["seeds"]) == 1, "seeds of other settings are not mixed in"


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("Do coins lie?", "What?", True),
        ('"small": {"n": 10}', '"small": {"n": 12}', True),  # settings have their own part
        ("    run=run,\n", "    run=run,  # a comment\n    tried='it',\n", True),
        ("Doe", "Roe", True),
        ("    run=run,\n", "    run=print,\n", False),
        ("0.6", "0.61", False),
        ("from pathlib import Path", "from pathlib import Path\nX = 1", False),
    ],
)
def test_what_decides_the_numbers_decides_the_key(old, new, same):
    import ast

    first = plan_hash(ast.parse(PLAIN.replace("BODY", "pass")))
    second = plan_hash(ast.parse(PLAIN.replace("BODY", "pass").replace(old, new)))
    assert (first == second) is same


def test_listing_runs_no_study(engram, write):
    write()
    write(name="rude", text='"""Rude, but listed."""\nraise SystemExit("ran")\n')
    for command in (("ls", "studies"), ("study",)):
        said = engram(*command)
        assert said.code == 0, said.err
        assert "Do coins lie?" in said.out
        assert "Rude, but listed." in said.out
    listed = json.loads(engram("study", "--json").out)["studies"]
    assert [row["name"] for row in listed] == ["coins", "rude"]
    assert list(json.loads(engram("ls", "studies", "--json").out)) == ["studies"]


def test_a_broken_study_does_not_stop_the_others(engram, refused, write):
    write()
    write(name="broken", text="def f(:\n")
    assert engram("study", "coins", "--budget", "smoke").code == 0
    assert "broken/study.py:1 is not Python" in refused("study")


def test_no_studies_at_all(engram, refused, tmp_path):
    assert "none yet" in engram("ls", "studies").out
    assert "no folder of studies at studies" in refused("study", "coins")
    assert "nowhere" in refused("ls", "studies", "--studies", "nowhere")
    (tmp_path / "studies").mkdir()
    assert "holds no studies" in engram("study").out
    assert engram("study", "--index").code == 0


def test_a_study_about_no_method_is_refused(engram, write):
    write(**{"    run=run,": "    methods=('lose',),\n    run=run,"})
    said = engram("study", "--index")
    assert said.code == 2
    assert "study 'coins' is about 'lose', which is no method" in said.err
    assert "did you mean loss" in said.err


def test_the_index_of_other_studies_leaves_the_packages_verdicts_alone(engram, write):
    write(**{"    run=run,": "    methods=('loss',),\n    run=run,"})
    before = read_verdicts()
    assert engram("study", "--index").code == 0
    assert read_verdicts() == before
    assert "coins" not in {study.name for study in before}


def test_the_index_counts_verdicts(engram, write, tmp_path):
    write()
    write(name="other", text=PLAIN.replace('"coins"', '"other"'))
    engram("study", "coins")
    said = engram("study", "--index")
    assert said.code == 0, said.err
    index = (tmp_path / "studies/README.md").read_text()
    assert "| [coins](coins/README.md) | Do coins lie? " in index
    assert "| small, 3 seeds | 1 | 1 | 0 | 1 |" in index
    assert "| never run | 0 | 0 | 0 | 3 |" in index


def test_underscores_and_dashes_are_the_same(engram, write):
    write(name="two_coins", text=PLAIN.replace('"coins"', '"two-coins"'))
    for name in ("two-coins", "two_coins"):
        assert engram("study", name, "--budget", "smoke").code == 0
    assert calls() == [0]


# ---- bad input


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return {'heads': float('nan')}", "measurement 'heads' is nan"),
        ("return {'heads': 1e999}", "measurement 'heads' is inf"),
        ("return {'heads': '0.7'}", "'heads' is '0.7', not a number"),
        ("return {'heads': 1j}", "not a number"),
        ("return {}", "not measurements by name"),
        ("return 0.7", "returned 0.7"),
        ("return {'two\\nlines': 1.0}", "is called"),
        ("return {3: 1.0}", "is called 3"),
        ("1 / 0", "study.py:15 raised ZeroDivisionError"),
        ("raise SystemExit(3)", "study.py:15 raised SystemExit"),
        ("from engram import read; read('nowhere.jsonl')", "nowhere.jsonl"),
    ],
)
def test_a_run_that_fails(engram, write, body, says):
    folder = write(body)
    said = engram("study", "coins")
    assert said.code == 2, said
    assert says in said.err
    assert "hint:" in said.err
    assert not (folder / "results").exists()


def test_a_failing_run_leaves_its_traceback_where_the_hint_says(engram, write):
    write("1 / 0")
    said = engram("study", "coins")
    where = said.err.partition("traceback is in ")[2].partition(";")[0]
    assert "ZeroDivisionError" in Path(where).read_text()


def test_a_claim_about_something_that_was_not_measured(engram, write):
    folder = write(**{'above("heads"': 'above("haeds"'})
    said = engram("study", "coins")
    assert said.code == 2
    assert "'haeds', which its run did not give" in said.err
    assert "did you mean heads?" in said.err
    assert calls() == [0], "it is found out after the first seed, which is kept"
    write()
    assert engram("study", "coins").code == 0
    assert calls() == [0, 1, 2]
    assert folder


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "makes no STUDY"),
        ("STUDY = 3\n", "makes a STUDY that is 3"),
        ("def f(:\n", "study.py:1 is not Python"),
        ("x = '\0'\n", "is not Python"),
        ("\xff" * 3, "is not Python"),
        ("import nothing_like_this\n", "ModuleNotFoundError"),
        ("raise SystemExit('bye')\n", "study.py:1 raised SystemExit: bye"),
        ("x = 1\n1 / 0\n", "study.py:2 raised ZeroDivisionError"),
        (PLAIN.replace('"coins"', '"dice"'), "holds the study 'dice'"),
        (PLAIN.replace('"smoke"', '"somke"'), "has no smoke budget"),
        ("x = " + "(" * 5000, "is not Python"),
        ("# " + "x" * 2**20, "bytes; more than"),
    ],
)
def test_files_that_are_no_studies(refused, write, text, says):
    folder = write(text=text) if "\xff" not in text else write(text="")
    if "\xff" in text:
        (folder / "study.py").write_bytes(text.encode("latin-1"))
    assert says in refused("study", "coins")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["coyns"], "did you mean coins?"),
        (["../studies/coins"], "no study called '../studies/coins'"),
        (["coins", "--budget", "smal"], "did you mean small"),
        (["coins", "--budget", "full"], "has no full budget"),
        (["coins", "--seeds", "-1"], "--seeds is -1"),
        (["coins", "--seeds", "many"], "many"),
        (["coins", "--studies", "nowhere"], "no folder of studies at nowhere"),
        (["coins", "--index"], "--index is about all studies"),
        (["coins", "--bugdet", "small"], "--budget"),
    ],
)
def test_commands_that_make_no_sense(refused, write, args, says):
    write()
    assert says in refused("study", *args)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: "{", "not valid JSON"),
        (lambda d: [d], "not a JSON object"),
        (lambda d: {**d, "study": "dice"}, "holds 'dice'"),
        (lambda d: {**d, "budget": "full"}, "at 'full'"),
        (lambda d: {**d, "seeds": 3}, "not a results file"),
        (lambda d: {**d, "seeds": [{"seed": 0}]}, "not a results file"),
        (lambda d: {**d, "seeds": [{**d["seeds"][0], "seed": "0"}]}, "not a results file"),
        (lambda d: {**d, "seeds": [{**d["seeds"][0], "measurements": []}]}, "not a results file"),
        (lambda d: {**d, "seeds": [{**d["seeds"][0], "measurements": {"heads": {"value": "x"}}}]},
         "heads is 'x'"),
        (lambda d: json.dumps(d).replace("0.4", "NaN"), "tails is nan"),
    ],
)  # fmt: skip
def test_results_that_are_damaged(engram, refused, write, change, says):
    path = write() / "results" / "small.json"
    engram("study", "coins")
    changed = change(json.loads(path.read_text()))
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    assert says in refused("study", "coins")


def test_findings_and_plain_numbers_are_both_measurements():
    found = measured(
        {
            "a": Finding("AUC", 0.7, 0.6, 0.8, 100),
            "b": np.float32(0.5),
            "c": Finding.missing("x", "no GPU"),
            "d": True,
        },
        "s",
        0,
    )
    assert found == {
        "a": {"value": 0.7, "low": 0.6, "high": 0.8, "n": 100},
        "b": {"value": 0.5},
        "c": {"value": None, "note": "no GPU"},
        "d": {"value": 1.0},
    }
    json.dumps(found)


# ---- our own studies


def test_there_are_studies():
    assert OURS


@pytest.mark.parametrize("name", OURS)
def test_the_smoke_budget_runs(name, tmp_path):
    # The promise is 15 seconds; imports under type checks, and the checks, take as long again.
    run, started = EngineRun(root=tmp_path / "store"), time.process_time()
    outcome = run_study(find(name, HOME), "smoke", run)
    assert time.process_time() - started < 30
    assert outcome.page is None
    assert set(outcome.study.names) <= set(outcome.results.seeds[0].measurements)


@pytest.mark.parametrize("name", OURS)
def test_nobody_typed_the_page(name):
    place = find(name, HOME)
    study = studies.load(place)
    page = studies.study_page(place, study, studies.evidence(place, study))
    assert (place.folder / "README.md").read_text(encoding="utf-8") == page


def test_nobody_typed_the_index():
    known = [(place, studies.load(place)) for place in studies.places(HOME).values()]
    rows = [(place, study, studies.evidence(place, study)) for place, study in known]
    assert (HOME / "README.md").read_text(encoding="utf-8") == studies.index_page(rows)
    carried = read_verdicts()  # what the package tells of its methods
    assert carried == tuple(studies.verdict_row(*row) for row in rows)


@pytest.mark.parametrize("path", sorted(HOME.glob("*/results/*.json")), ids=lambda p: p.parts[-3])
def test_committed_results_are_evidence(path):
    place = find(path.parts[-3], HOME)
    found = studies.read_results(path, place.name, path.stem)
    assert len(found.seeds) >= 3, "fewer seeds decide nothing"
    assert path.stem != "smoke"
    text = path.read_text(encoding="utf-8")
    for word in ("/home", "/root", "/work", "/tmp", "/Users", "C:\\\\"):
        assert word not in text, f"{path} names a folder of the machine"

"""The pages of reference that people wrote say what the code says."""

import ast
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from engram.cli.forget import FORGETTING, SUPPRESSED
from engram.cli.judge import LIMIT_KEYS, read_policy
from engram.core import Finding, Ledger, Lineage, Split
from engram.core.pseudonyms import pseudonym
from engram.engine.battery import BATTERIES, JOINING
from engram.store import deletions

HOME = Path(__file__).resolve().parents[2]
DOCS = HOME / "docs"


def page(name):
    return (DOCS / name).read_text(encoding="utf-8")


def section(text, title):
    """What stands below a heading, up to the next one of its rank or a higher."""
    head = re.search(rf"^(#+) {re.escape(title)}", text, re.MULTILINE)
    rest = text[head.end() :]
    return re.split(rf"^#{{1,{len(head[1])}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def test_every_variable_that_the_code_reads_is_told():
    told = section(page("reference/settings.md"), "Environment variables")
    ours = "\n".join(p.read_text(encoding="utf-8") for p in (HOME / "src").rglob("*.py"))
    read = set(re.findall(r"\b(ENGRAM_[A-Z]+|[A-Z]+_API_KEY)\b", ours))
    read |= set(re.findall(r"os\.environ(?:\.get\(|\[)['\"](\w+)", ours))
    assert {name for name in read if f"`{name}`" not in told} == set()


def test_every_optional_group_is_told():
    told = section(page("reference/settings.md"), "Optional packages")
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["project"]["optional-dependencies"]
    assert set(re.findall(r"^\| `(\w+)` \|", told, re.MULTILINE)) == set(groups)


def test_formats_are_those_that_are_written(tmp_path):
    told = section(page("reference/files.md"), "A target")
    split = Split.of("s", text=["a", "b"], owners=["p", "q"])
    Ledger.of(split, np.array([True, False])).save(tmp_path)
    columns = pq.read_schema(tmp_path / "ledger.parquet").names
    lineage = [f.name for f in fields(Lineage) if f.name not in ("kind",)]
    for name in [*columns, *lineage]:
        assert f"`{name}`" in told, name
    findings = section(page("reference/files.md"), "A run")
    for name in ("method", "name", "value", "low", "high", "n", "unit", "split"):
        assert name in {f.name for f in fields(Finding)}
        assert f'"{name}"' in findings


def test_policies_of_the_page_are_read_and_complete(tmp_path):
    told = section(page("reference/files.md"), "Policy")
    shown = re.findall(r"```toml\n(.*?)```", told, re.DOTALL)
    for number, text in enumerate(shown):
        path = tmp_path / f"{number}.toml"
        path.write_text(text, encoding="utf-8")
        limits = read_policy(path)
    assert limits == [*FORGETTING, SUPPRESSED]
    assert {f"`{key}`" for key in LIMIT_KEYS} <= set(re.findall(r"`\w+`", told))


def test_a_ledger_is_what_the_page_says(tmp_path):
    told = section(page("reference/files.md"), "The deletion ledger")
    entry = deletions.append(tmp_path, {"key": "k"})
    for name in ("number", "previous", "hash", "time", *entry.facts):
        assert f"`{name}`" in told, name
    made = (HOME / "src/engram/engine/deletion.py").read_text(encoding="utf-8")
    written = next(
        node
        for node in ast.walk(ast.parse(made))
        if isinstance(node, ast.Dict)
        and {"by", "records"} <= {getattr(key, "value", "") for key in node.keys}
    )
    for key in written.keys:
        assert f"`{key.value}`" in told, key.value
    assert pseudonym("x", "id").startswith("forgotten-")


def test_a_certificate_has_the_keys_of_the_page():
    told = section(page("reference/files.md"), "A certificate")
    made = (HOME / "src/engram/report/certificate.py").read_text(encoding="utf-8")
    (function,) = (
        node
        for node in ast.parse(made).body
        if isinstance(node, ast.FunctionDef) and node.name == "certificate"
    )
    (kept,) = (n.value for n in ast.walk(function) if isinstance(n, ast.Return))
    keys = {key.value for key in kept.keys} - {"engram", "kind", "created"}
    assert {key for key in keys if f"`{key}`" not in told} == set()


@pytest.mark.parametrize("option", sorted(JOINING))
def test_attacks_that_join_a_battery_are_told(option):
    told = page("explanations/which-attack.md")
    (row,) = (
        line for line in told.splitlines() if line.startswith("|") and f"`--{option} " in line
    )
    assert all(f"[{name}]" in row for name in JOINING[option])


def test_batteries_are_those_of_the_code():
    told = " ".join(page("explanations/which-attack.md").split())
    quick, standard, thorough = (BATTERIES[n] for n in ("quick", "standard", "thorough"))
    assert (
        f"`--battery quick` is {', '.join(f'`{n}`' for n in quick[:-1])} and `{quick[-1]}`" in told
    )
    more = [name for name in standard if name not in quick]
    assert f"adds {' and '.join(f'`{n}`' for n in more)};" in told
    assert set(thorough) - set(standard) == {"neighbourhood"}


def test_a_question_names_methods_that_there_are():
    from engram import catalog

    listed = tomllib.loads(page("_site/questions.toml"))["question"]
    known = {name for kind in catalog.KINDS for name in catalog.entries(kind)}
    assert {name for each in listed for name in each["methods"]} <= known

"""A package of somebody else adds an attack: installed for real, found, and held to our rules."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAME = "second-worst-token"


def python(*arguments, site=None):
    """Run our Python in the repository, with the packages in `site` installed."""
    paths = [str(site)] if site else []
    paths += [p for p in [os.environ.get("PYTHONPATH")] if p]
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder into which pip has installed the example package, without a network."""
    source = tmp_path_factory.mktemp("source") / "package"
    shutil.copytree(HERE / "package", source)
    folder = tmp_path_factory.mktemp("site")
    done = python(
        "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
        "--disable-pip-version-check", "--target", folder, source,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_is_not_there_before_it_is_installed():
    done = python("-c", "from engram.catalog import entries; print(*entries('attacks'))")
    assert done.returncode == 0, done.stderr
    assert NAME not in done.stdout.split()
    assert "min-k" in done.stdout.split()


def test_the_catalogue_finds_it_without_importing_it(site):
    code = (
        "import sys, json\n"
        "from engram.catalog import entries, find, kind_of, name_of\n"
        f"entry = find('attacks', {NAME!r})\n"
        "early = 'engram_example_attack.second_worst_token' in sys.modules\n"
        "made = entry.load()()\n"
        "print(json.dumps([entry.summary, early, name_of(made), kind_of(made)]))\n"
    )
    done = python("-c", code, site=site)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        "Score a text by its second least likely token.", False, NAME, "attacks",
    ]  # fmt: skip


def test_the_command_line_lists_it_beside_ours(site):
    done = python("-c", "from engram.cli import main; main()", "ls", "attacks", site=site)
    assert done.returncode == 0, done.stderr
    assert NAME in done.stdout
    assert "min-k" in done.stdout


def test_passes_conformance_unchanged(site):
    done = python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/conformance", "-k", NAME, site=site
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = int(done.stdout.rpartition(" passed")[0].split()[-1])
    rules = sum(
        path.read_text(encoding="utf-8").count("\ndef test_")
        for path in (
            HERE.parent / "conformance" / "test_every_method.py",
            HERE.parent / "conformance" / "test_every_attack.py",
        )
    )
    assert passed == rules, "every rule for methods and for attacks was checked"

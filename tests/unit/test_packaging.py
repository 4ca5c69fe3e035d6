"""What is handed out: a wheel and an sdist that carry all they need, and nothing else."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from importlib.util import find_spec
from pathlib import Path

import pytest
from bare_site import bare_site, python
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import engram
from engram import extras

HOME = Path(__file__).resolve().parents[2]
SOURCES = HOME / "src"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    (made,) = WheelBuilder(str(HOME)).build(directory=str(out), versions=["standard"])
    return Path(made)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    out = tmp_path_factory.mktemp("sdist")
    (made,) = SdistBuilder(str(HOME)).build(directory=str(out), versions=["standard"])
    return Path(made)


def test_the_wheel_holds_every_file_of_the_package(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("engram/")}
    ours = {
        path.relative_to(SOURCES).as_posix()
        for path in (SOURCES / "engram").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == ours
    assert "engram/py.typed" in held
    assert any(name.endswith(".html") or ".j2" in name for name in held), "templates"


def test_the_wheel_holds_nothing_else(wheel):
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"engram", f"engram-{engram.__version__}.dist-info"}


def test_the_sdist_holds_no_tests_and_no_data(sdist):
    with tarfile.open(sdist) as file:
        names = [name.partition("/")[2] for name in file.getnames()]
    tops = {name.partition("/")[0] for name in names}
    assert {"src", "README.md", "LICENSE", "pyproject.toml"} <= tops
    assert not tops & {"tests", "studies", "benchmarks", "runs", "demo", ".venv"}
    assert not [name for name in names if name.endswith((".npz", ".parquet", ".csv", ".xz"))]


def test_a_wheel_can_be_made_of_the_sdist(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as file:
        file.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    (made,) = WheelBuilder(str(folder)).build(
        directory=str(tmp_path / "out"), versions=["standard"]
    )
    again, first = (zipfile.ZipFile(w).namelist() for w in (made, wheel))
    assert sorted(again) == sorted(first)


def test_the_wheel_alone_answers(wheel, tmp_path):
    """Unpacked elsewhere, before the sources on the path: it is the wheel that answers."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "ENGRAM_RUNS": str(tmp_path)}
    call = [sys.executable, "-c", "import engram; print(engram.__file__)"]
    where = subprocess.run(call, capture_output=True, text=True, env=env, cwd=tmp_path, check=True)
    assert where.stdout.startswith(str(tmp_path))
    for command in (["--version"], ["ls"], ["explain", "min-k"]):
        ran = [sys.executable, "-m", "engram", *command]
        ours = subprocess.run(ran, capture_output=True, text=True, env=env, cwd=tmp_path)
        assert ours.returncode == 0, ours.stderr
        assert ours.stdout


def test_the_wheel_says_what_it_is(wheel):
    files = zipfile.ZipFile(wheel)
    info = f"engram-{engram.__version__}.dist-info"
    said = message_from_bytes(files.read(f"{info}/METADATA"))
    assert said["Version"] == engram.__version__
    assert {"graph", "vision", "peft", "dp", "fast", "web"} <= set(said.get_all("Provides-Extra"))
    assert "engram = engram.cli:main" in files.read(f"{info}/entry_points.txt").decode()
    assert f"{info}/licenses/LICENSE" in files.namelist()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def empty(wheel, tmp_path_factory, elsewhere):
    """An environment with the wheel and what it cannot do without, put there without an index.

    Returns a function that runs `engram` in it, in a folder outside the repository.
    """
    optional = {name for extra, names in extras.packages().items() if extra for name in names}
    site = bare_site(tmp_path_factory.mktemp("site"), optional)
    into = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-index", "--no-deps", "--no-compile", "--target", str(into), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)

    def run(*args):
        return python("-m", "engram", *args, path=[into, site], cwd=elsewhere)

    where = python("-c", "import engram; print(engram.__file__)", path=[into, site], cwd=elsewhere)
    assert where.stdout.startswith(str(into)), where.stderr
    return run


def test_in_an_empty_environment_the_wheel_answers(empty):
    assert empty("--version").stdout == f"engram {engram.__version__}\n"
    rows = json.loads(empty("ls", "--json").stdout)
    assert {"min-k", "loss"} <= {row["name"] for row in rows["attacks"]}
    found = json.loads(empty("doctor", "--json").stdout)
    assert found["engram"] == engram.__version__
    assert all(found["packages"][""].values()), "what it cannot do without"
    assert not found["packages"]["fast"]["numba"]
    assert "_engram" in empty("completion", "bash").stdout
    if find_spec("engram.web"):
        assert empty("view", "--help").returncode == 0


@pytest.mark.slow
def test_in_an_empty_environment_the_whole_story_is_told(empty, elsewhere):
    said = empty("demo", "--quick", "--out", "demo", "--json")
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    report = elsewhere / found["report"]
    page = report.read_text("utf-8")
    assert found["owner"] in page
    assert "<svg" in page
    assert found["verdict"]["sentence"]
    assert (report.parent / "report.json").is_file()

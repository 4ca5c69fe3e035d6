"""What is handed out: a wheel and an sdist that carry all they need, and nothing else."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from contextlib import contextmanager
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
def installed(wheel, tmp_path_factory):
    """The wheel, put into a folder without an index."""
    into = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-index", "--no-deps", "--no-compile", "--target", str(into), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    return into


def packages(folder, *groups):
    """What the wheel cannot do without, and the named groups of packages."""
    known = extras.packages()
    wanted = {name for group in ("", *groups) for name in known[group]}
    return bare_site(folder, {name for names in known.values() for name in names} - wanted)


@pytest.fixture(scope="module")
def empty(installed, tmp_path_factory, elsewhere):
    """An environment with the wheel and what it cannot do without.

    Returns a function that runs `engram` in it, in a folder outside the repository.
    """
    path = [installed, packages(tmp_path_factory.mktemp("site"))]

    def run(*args):
        return python("-m", "engram", *args, path=path, cwd=elsewhere)

    where = python("-c", "import engram; print(engram.__file__)", path=path, cwd=elsewhere)
    assert where.stdout.startswith(str(installed)), where.stderr
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


@contextmanager
def viewing(path, cwd):
    """The address of `engram view`, which is ended as a user would."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-m", "engram", "view", "--port", "0", "--no-browser",
         "--store", str(next(cwd.rglob("index.sqlite")).parent)],
        cwd=cwd, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
    )  # fmt: skip
    with process:
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0


def walk(address, browser, dark, pictures):
    """Lists, filters, opens a target and a record, compares two runs: what the story left."""
    page = browser.new_page(base_url=address, color_scheme="dark" if dark else "light")
    page.set_default_timeout(15_000)

    def keep(what):
        name = f"wheel-{what}-{'dark' if dark else 'light'}.png"
        page.screenshot(path=pictures / name, full_page=True)

    refused = []  # a page that is left drops what it still waits for: that is "aborted"
    page.on("requestfailed", lambda r: "ABORTED" in r.failure or refused.append(r.url))
    page.goto("/")
    page.get_by_role("link", name="Runs", exact=True).click()
    page.get_by_role("heading", name="Runs", exact=True).wait_for()
    page.wait_for_load_state()
    page.get_by_label("Kind").select_option("audit")
    page.wait_for_url("**kind=audit**")
    keep("filtered")
    boxes = page.get_by_role("checkbox")
    for number in range(2):
        boxes.nth(number).check()
    page.get_by_role("button", name="Compare the marked").click()
    page.get_by_role("heading", name="Side by side").wait_for()
    assert page.locator(".curve").count() == 2
    keep("compared")
    page.goto("/targets?q=finetune-lm")
    page.locator("#list tbody th a, #list tbody td a").first.click()
    page.get_by_role("heading", name="Lineage").wait_for()
    keep("target")
    page.get_by_role("link", name="trained", exact=True).click()
    page.locator("#records tbody a").first.click()
    page.get_by_role("heading", name="In which targets").wait_for()
    keep("record")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert not refused
    return ground


@pytest.mark.slow
def test_in_an_empty_environment_the_story_is_told_and_looked_at(
    empty, installed, elsewhere, tmp_path, pictures
):
    said = empty("demo", "--quick", "--out", "demo", "--json")
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    report = elsewhere / found["report"]
    page = report.read_text("utf-8")
    assert found["owner"] in page
    assert "<svg" in page
    assert found["verdict"]["sentence"]
    assert (report.parent / "report.json").is_file()

    chromium = os.environ.get("ENGRAM_CHROMIUM") or shutil.which("chromium") or ""
    if not Path(chromium).is_file() or not find_spec("playwright"):
        pytest.skip("the story was told, but there is no Chromium to look at it with")
    from playwright.sync_api import sync_playwright

    with (
        viewing([installed, packages(tmp_path, "web")], elsewhere) as address,
        sync_playwright() as playwright,
    ):
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        grounds = [walk(address, browser, dark, pictures) for dark in (False, True)]
        browser.close()
    assert grounds[0] != grounds[1], "dark is not another colour"
    kept = [path for path in pictures.glob("wheel-*.png") if path.stat().st_size]
    assert len(kept) == 2 * 4, "list, comparison, target and record, in light and dark"

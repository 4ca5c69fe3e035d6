"""A walk through `engram view` in a real browser: keyboard, colours, axe, and pictures of it all.

Where Chromium or Playwright is missing, every test here is skipped and says so. The pictures are
kept in the folder that ENGRAM_SCREENSHOTS names, else among the temporary files.
"""

import json
import os
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from engram.store import deletions

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
axe_playwright = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
)
uvicorn = pytest.importorskip("uvicorn", reason="the extra web is not installed")
CHROMIUM = os.environ.get("ENGRAM_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists(), reason=f"Chromium is not installed ({CHROMIUM})"
)


@pytest.fixture(scope="module")
def address(shelf):
    """The application, served over a real socket."""
    from engram.web import create_app

    work = shelf.root / "finetune-lm-running" / ".work-finetune-lm-running"
    work.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"step": n, "loss": 3 / (n + 1)}) + "\n" for n in range(9))
    (work / "log.jsonl").write_text("".join(lines))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(uvicorn.Config(create_app(shelf.root), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listener.close()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture
def page(browser, address):
    """A page whose browser must not complain: no script fails, nothing is refused."""
    context = browser.new_context(base_url=address, viewport={"width": 1240, "height": 900})
    context.set_default_timeout(15_000)
    found, complaints = context.new_page(), []
    found.on("pageerror", lambda problem: complaints.append(str(problem)))
    found.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    yield found
    context.close()
    assert not complaints


def names_of(shelf):
    audits = shelf.folders("audit")
    exposed = json.loads((shelf.root / audits[0] / "run.json").read_text())["exposed"][0]["id"]
    forgotten = deletions.entries(shelf.root)[0].facts["records"][0]
    compared = "&".join(f"run={folder}" for folder in audits[:3])
    return {
        "overview": "/", "runs": "/runs", "targets": "/targets", "lineage": "/lineage",
        "audit": f"/run/{audits[0]}", "story": f"/run/{shelf.folders('forget')[0]}",
        "target": f"/target/{shelf.folders('retrain')[0]}?role=all",
        "compare": f"/compare?{compared}", "record": f"/record?id={exposed}",
        "forgotten": f"/record?id={forgotten}", "records": "/record", "deletions": "/deletions",
        "running": "/running?live=0", "nothing": "/runs?q=nothing-like-this",
    }  # fmt: skip


def serious(page):
    """What axe finds that is serious or critical, in words."""
    found = axe_playwright.Axe().run(page).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_usable(page, shelf, pictures, scheme):
    """Axe finds nothing serious, and no page scrolls sideways on a narrow screen."""
    page.emulate_media(color_scheme=scheme)
    found = {}
    for name, at in names_of(shelf).items():
        page.goto(at)
        if problems := serious(page):
            found[name] = problems
        page.screenshot(path=pictures / f"{name}-{scheme}.png", full_page=True)
        page.set_viewport_size({"width": 380, "height": 800})
        wide = page.evaluate("document.documentElement.scrollWidth")
        if scheme == "light":
            page.screenshot(path=pictures / f"{name}-narrow.png", full_page=True)
        page.set_viewport_size({"width": 1240, "height": 900})
        assert wide <= 380, f"{name} is {wide} pixels wide"
    assert not found


def test_a_reader_lists_filters_and_sorts(page, shelf, pictures):
    page.goto("/")
    page.get_by_role("link", name="Runs", exact=True).click()
    page.get_by_role("heading", name="Runs", exact=True).wait_for()
    page.wait_for_load_state()  # before that the list is renewed by its button alone
    whole = page.locator("#list tbody tr")
    assert whole.count() == len(shelf.folders("audit")) + 1

    page.get_by_label("Kind").select_option("audit")  # htmx: the list alone is changed
    page.wait_for_url("**kind=audit**")
    sync_api.expect(whole).to_have_count(len(shelf.folders("audit")))
    page.get_by_label("Search names").fill("fit-estimator")
    sync_api.expect(whole).to_have_count(2)
    page.wait_for_url("**q=fit-estimator**")
    page.get_by_role("link", name="Number it rests on").click()
    page.wait_for_url("**sort=value**")
    sync_api.expect(page.locator('th[aria-sort="descending"]')).to_contain_text("Number")
    page.get_by_label("Rows").select_option("25")  # which keeps the order
    page.wait_for_url("**size=25**")
    sync_api.expect(page.locator('th[aria-sort="descending"]')).to_contain_text("Number")
    page.go_back()
    page.wait_for_url("**sort=value**")
    sync_api.expect(whole).to_have_count(2)
    page.screenshot(path=pictures / "walk-1-filtered.png")


def test_a_reader_compares_opens_a_target_and_a_record(page, shelf, pictures):
    page.goto("/runs?kind=audit&q=fit-estimator")
    for box in page.get_by_role("checkbox").all():
        box.check()
    assert page.locator(".chosen").inner_text() == "2 marked"
    page.get_by_role("button", name="Compare the marked").click()
    page.get_by_role("heading", name="Side by side").wait_for()
    assert page.locator(".curve").count() == 2
    assert page.get_by_role("table", name="Usefulness and leakage").count() == 1
    page.screenshot(path=pictures / "walk-2-compared.png", full_page=True)

    page.goto("/targets")
    page.get_by_role("link", name=shelf.folders("retrain")[0]).click()
    page.get_by_role("heading", name="Lineage").wait_for()
    page.locator(".kin a:not(.chosen)").first.click()  # to where it came from
    page.get_by_role("heading", level=1).get_by_text("train-classifier").wait_for()
    page.get_by_role("link", name="trained", exact=True).click()
    page.locator("#records tbody a").first.click()
    page.get_by_role("heading", name="In which targets").wait_for()
    page.screenshot(path=pictures / "walk-3-record.png", full_page=True)

    page.get_by_role("link", name="Deletions", exact=True).click()
    page.get_by_text("The chain is whole: 1 entry").wait_for()
    page.get_by_text("3 records").click()
    page.locator("details a").first.click()
    page.get_by_text("its id was deliberately not kept").wait_for()


def test_the_report_opens_and_may_do_nothing(page, shelf):
    page.goto(f"/run/{shelf.folders('audit')[0]}")
    page.get_by_role("link", name="The whole report").click()
    page.get_by_role("heading", level=1).wait_for()
    assert page.evaluate("getComputedStyle(document.body).margin") == "0px"  # its style counts


def test_it_can_be_used_by_keyboard_alone(page):
    page.goto("/runs")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    seen = []
    for _ in range(60):  # every stop is seen, and none holds the reader
        page.keyboard.press("Tab")
        seen.append(page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e);"
            " return [e.tagName, e.id || e.textContent.trim().slice(0, 30), s.outlineStyle] })()"
        ))  # fmt: skip
        if seen[-1][0] == "BODY":
            break
    assert seen[-1][0] == "BODY", "the end of the page was not reached"
    assert len(seen) > 15
    assert all(outline != "none" for tag, _, outline in seen if tag != "BODY"), seen


def test_dark_is_chosen_and_remembered(page, pictures):
    page.emulate_media(color_scheme="light")
    page.goto("/")

    def paper():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = paper()
    page.get_by_role("button", name="dark").click()
    assert paper() != light
    assert page.get_by_role("button", name="dark").get_attribute("aria-pressed") == "true"
    page.goto("/targets")
    assert paper() != light
    page.screenshot(path=pictures / "walk-4-dark.png")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.emulate_media(media="screen", color_scheme="dark")
    page.get_by_role("button", name="light").click()
    assert paper() == light


def test_running_jobs_come_and_go_by_themselves(page, shelf):
    page.goto("/running")
    page.get_by_text("finetune-lm-running").first.wait_for()
    late = shelf.root / "late-job" / ".work-late-job"
    late.mkdir(parents=True)
    try:
        (late / "log.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
        page.get_by_text("late-job").first.wait_for()
    finally:
        shutil.rmtree(late.parent)


def test_without_scripts_it_works_too(browser, address, shelf):
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/runs")
    page.get_by_label("Kind").select_option("story")
    page.get_by_role("button", name="Filter").click()
    assert page.locator("#list tbody tr").count() == 1
    page.get_by_role("button", name="dark").click()
    assert page.url.endswith("kind=story&level=&method=&size=50&sort=created&way=down")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    context.close()


def test_a_page_that_cannot_be_renewed_says_so(browser, address):
    context = browser.new_context(base_url=address)
    page = context.new_page()
    page.goto("/runs")
    page.wait_for_load_state()
    said = page.get_by_role("alert")
    assert not said.is_visible()
    page.route("**/runs?**", lambda route: route.abort())
    page.get_by_label("Kind").select_option("audit")
    sync_api.expect(said).to_contain_text("does not answer")
    page.unroute("**/runs?**")
    page.get_by_label("Kind").select_option("story")
    page.wait_for_url("**kind=story**")
    sync_api.expect(said).to_be_hidden()
    context.close()


def test_long_names_break_no_page(browser, shelf, tmp_path):
    """A name without a blank, as long as one may be, in every place where names stand."""
    from engram import store

    name, root = "x" * 290, tmp_path / "runs"
    shutil.copytree(shelf.root, root)
    audits = [p for p in sorted(root.iterdir()) if p.name.startswith("audit")]
    for path in (*audits, *(p for p in root.iterdir() if (p / "target.json").is_file())):
        file = path / ("run.json" if path in audits else "target.json")
        record = json.loads(file.read_text())
        if path in audits:
            record["target"]["name"] = record["setup"]["data"] = name
            record["exposed"][0]["id"] = record["exposed"][0]["owner"] = name
        else:
            record["name"] = name
            record["lineage"]["method"] = record["lineage"]["data"] = name
        file.write_text(json.dumps(record))
    store.reindex(root)
    from web_pages import opened

    chosen = "&".join(f"run={path.name}" for path in audits[:3])
    target = next(p.name for p in root.iterdir() if p.name.startswith("retrain"))
    pages = ["/", "/runs", "/targets", "/lineage", f"/run/{audits[0].name}", f"/target/{target}",
             f"/compare?{chosen}", f"/record?id={name}", "/deletions"]  # fmt: skip
    context = browser.new_context(viewport={"width": 380, "height": 800})
    page = context.new_page()
    with opened(root) as client:

        def answer(route):
            found = client.get(route.request.url.removeprefix("http://127.0.0.1:8765"))
            route.fulfill(status=found.status_code, body=found.content,
                          headers={"content-type": found.headers["content-type"]})  # fmt: skip

        page.route("**/*", answer)
        for at in pages:
            page.goto(f"http://127.0.0.1:8765{at}")
            for width in (380, 1240):
                page.set_viewport_size({"width": width, "height": 800})
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{at} is {wide} pixels wide"
    context.close()

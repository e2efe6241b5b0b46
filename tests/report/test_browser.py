"""Pages of runs in headless Chromium, with `pip install playwright axe-playwright-python`."""

import shutil

import pytest

from strop.actions.report import report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium"),
]
SIZES = {"phone": 390, "desk": 1280}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(compared, tmp_path_factory):
    several = tmp_path_factory.mktemp("compared") / "compared.html"
    report([str(run.path) for run in compared], several)
    return {"one": compared[0].report.as_uri(), "several": several.as_uri()}


@pytest.fixture
def opened(browser, request):
    """Return a function that opens a page and gives it with all that it asked for and said."""

    def open_page(address, **options):
        context = browser.new_context(**options)
        request.addfinalizer(context.close)
        page, events = context.new_page(), []
        page.on("request", lambda asked: events.append(asked.url))
        page.on("console", lambda message: events.append(message.text))
        page.on("dialog", lambda dialog: events.append(dialog.message))
        page.goto(address)
        return page, events

    return open_page


@pytest.mark.parametrize("which", ["one", "several"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_a_page_fits_its_window_asks_for_nothing_and_runs_nothing(
    opened, pages, which, scheme, size
):
    view = {"viewport": {"width": SIZES[size], "height": 900}, "color_scheme": scheme}
    page, events = opened(pages[which], **view)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert events == [pages[which]]
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]
    outside = "[...document.querySelectorAll('section *')].filter(e => !e.closest('.wide, svg'))"
    edges = f"{outside}.map(e => e.getBoundingClientRect().right).reduce((a, b) => Math.max(a, b))"
    assert page.evaluate(edges) <= SIZES[size]


@pytest.mark.parametrize("which", ["one", "several"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_for_who_cannot_see_or_point(opened, pages, which, scheme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is not installed"
    )
    for width in SIZES.values():
        view = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
        page, _ = opened(pages[which], bypass_csp=True, **view)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        faults = axe.Axe().run(page).response["violations"]
        assert [(f["id"], [node["target"] for node in f["nodes"]]) for f in faults] == []


def test_the_first_key_leads_to_the_content_and_focus_is_seen(opened, pages):
    page, _ = opened(pages["one"])
    page.keyboard.press("Tab")
    link = page.evaluate_handle("document.activeElement")
    assert link.evaluate("e => e.textContent") == "Skip to the content"
    assert link.evaluate("e => e.getBoundingClientRect().left") >= 0
    assert link.evaluate("e => getComputedStyle(e).outlineWidth") == "3px"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_print_has_no_navigation_and_dark_pages_are_printed_light(opened, pages):
    page, _ = opened(pages["one"], color_scheme="dark")
    color = "getComputedStyle(document.querySelector('h2')).color"
    assert page.evaluate(color) == "rgb(230, 233, 239)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(color) == "rgb(27, 35, 48)"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert len(page.pdf(format="A4")) > 20_000


def test_motion_is_left_out_for_who_does_not_want_it(opened, pages):
    scroll = "getComputedStyle(document.documentElement).scrollBehavior"
    moving, _ = opened(pages["one"], reduced_motion="no-preference")
    still, _ = opened(pages["one"], reduced_motion="reduce")
    assert (moving.evaluate(scroll), still.evaluate(scroll)) == ("smooth", "auto")

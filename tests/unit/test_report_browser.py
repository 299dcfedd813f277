"""The report as people open it: in a real browser, on a phone, printed, with no network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, binary
from report_world import CFG, make_run
from test_report_parts import bank, make_items

from spct.records import Item
from spct.report import build
from spct.report.page import render

pytestmark = pytest.mark.skipif(
    binary() is None, reason="needs Chromium or Chrome on the PATH to open the pages"
)
ATTACK = "</pre><script>document.title='owned'</script><img src='http://127.0.0.1:9/leak'>"
COLUMN = """(() => {{
  const table = document.querySelectorAll('#{chapter} table')[{table}];
  return [...table.tBodies[0].rows].map(row => row.cells[{column}].textContent.trim());
}})()"""


def attacked(item: Item) -> Item:
    message = ({"role": "user", "content": ATTACK},)
    return replace(item, messages=message, responses=(ATTACK,) * item.n)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything on it, its judged items full of markup."""
    root = tmp_path_factory.mktemp("browser")
    banks, items = bank(root / "bank", [attacked(item) for item in make_items(4)], size="m")
    run = make_run(root)
    build.run(CFG, 0, **run, banks=banks, items=items, run="t", out=root / "reports/t")
    return root / "reports/t/report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    browser.requests.clear()
    browser.errors.clear()
    browser.size(1280, 900)
    browser.open(page.as_uri())
    return browser


def column(browser: Browser, chapter: str, nth: int, table: int = 0) -> list[str]:
    found: list[str] = browser.ask(COLUMN.format(chapter=chapter, table=table, column=nth))
    return found


def test_figures_and_tables_are_there(opened: Browser) -> None:
    assert opened.ask("document.querySelectorAll('svg').length") == 3
    boxes: list[Any] = opened.ask(
        "[...document.querySelectorAll('svg')].map(e => e.getBoundingClientRect())"
        ".map(box => Math.min(box.width, box.height))"
    )
    assert min(boxes) > 60
    empty = "[...document.querySelectorAll('table')].filter(t => !t.tBodies[0].rows.length).length"
    assert opened.ask("document.querySelectorAll('table').length") >= 12
    assert opened.ask(empty) == 0
    links: list[bool] = opened.ask(
        "[...document.querySelectorAll('nav a')].map(a => !!document.querySelector(a.hash))"
    )
    assert len(links) == 10 and all(links)
    assert opened.errors == []


def test_nothing_is_asked_for_and_markup_from_data_does_nothing(
    opened: Browser, page: Path
) -> None:
    assert opened.ask("document.body.textContent.includes(\"document.title='owned'\")")
    assert opened.ask("document.title").startswith("Scaling <of> rewards")
    assert opened.requests == [page.as_uri()]


def test_the_policy_stops_what_escaping_would_have_missed(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    """The same page with the markup let through: still no script runs and nothing is fetched."""
    text = page.read_text(encoding="utf-8")
    bad = tmp_path / "bad.html"
    bad.write_text(text.replace("</h1>", f"</h1>{ATTACK}", 1), encoding="utf-8")
    browser.requests.clear()
    browser.open(bad.as_uri())
    assert browser.ask("document.title") != "owned"
    assert browser.ask("document.querySelectorAll('img').length") == 1
    blocked = [url for url in browser.requests if url != bad.as_uri()]
    refused = [text for text in browser.errors if "Content Security Policy" in text]
    assert len(refused) >= 2 and all("127.0.0.1:9" in url for url in blocked)
    assert browser.ask("performance.getEntriesByType('resource').every(e => !e.responseStatus)")


def test_a_click_sorts_and_another_turns_it_round(opened: Browser) -> None:
    before = column(opened, "rft", 4)
    assert before == ["0.0"]  # one line is not sortable
    assert opened.ask("document.querySelector('#rft th').getAttribute('aria-sort')") is None
    opened.ask("document.querySelectorAll('#scaling table')[3].id = 'compared'")
    head = "#compared thead th:nth-child(3)"
    before = column(opened, "scaling", 2, 3)
    opened.click(head)
    down = column(opened, "scaling", 2, 3)
    assert down == ["+9.0", "+5.7", "+4.4", "+3.1", "-2.3"] != before
    opened.click(head)
    assert column(opened, "scaling", 2, 3) == down[::-1]
    opened.click("#compared thead th:nth-child(1)")
    names = column(opened, "scaling", 0, 3)
    assert names == sorted(names, key=str.lower)
    assert opened.ask(f"document.querySelector('{head}').getAttribute('aria-sort')") == "none"


def test_the_keyboard_sorts_too(opened: Browser) -> None:
    opened.ask(
        "document.querySelectorAll('#scaling table')[3].tHead.rows[0].cells[2].dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}))"
    )
    assert column(opened, "scaling", 2, 3)[0] == "+9.0"


def test_what_has_no_number_stays_last(browser: Browser, tmp_path: Path) -> None:
    rows = ("–", "± 2.0", "1,000", "-3.5", "−4", "1e-5")
    cells = "".join(f"<tr><td>{i}</td><td>{text}</td></tr>" for i, text in enumerate(rows))
    text = render("page.html.jinja").replace(
        "<body>", f"<body><table><thead><tr><th>n<th>x</thead><tbody>{cells}</tbody></table>"
    )
    page = tmp_path / "numbers.html"
    page.write_text(text, encoding="utf-8")
    browser.open(page.as_uri())
    read = "[...document.querySelectorAll('td:nth-child(2)')].map(cell => cell.textContent)"
    browser.click("th:nth-child(2)")
    assert browser.ask(read) == ["1,000", "± 2.0", "1e-5", "-3.5", "−4", "–"]
    browser.click("th:nth-child(2)")
    assert browser.ask(read) == ["−4", "-3.5", "1e-5", "± 2.0", "1,000", "–"]


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_never_scrolls_sideways(opened: Browser, width: int) -> None:
    opened.size(width, 844, phone=width < 1000)
    assert opened.ask("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.wide')].some(box => box.scrollWidth > box.clientWidth)"
    assert opened.ask(wide) or width > 1000


def test_printed_it_is_whole(opened: Browser, tmp_path: Path) -> None:
    """Closed parts are printed open, but for the settings, and are closed again."""
    closed = "document.querySelectorAll('details:not([open])').length"
    before = opened.ask(closed)
    opened.ask(f"addEventListener('beforeprint', () => {{ window.during = {closed}; }})")
    opened.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    quiet = opened.ask("document.querySelectorAll('details.quiet').length")
    assert opened.ask("window.during") == quiet < before
    assert opened.ask(closed) == before


def test_a_judges_page_opens_alike(browser: Browser, page: Path) -> None:
    browser.errors.clear()
    browser.size(390, 844, phone=True)
    browser.open((page.parent / "health/health-grpo-m.html").as_uri())
    assert browser.ask("document.querySelectorAll('table').length") >= 2
    assert browser.ask("document.documentElement.scrollWidth") <= 390
    assert browser.errors == []

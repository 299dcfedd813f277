"""Every page that is written, held to its content security policy: as text and in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import Browser, binary
from jinja2 import Environment, FileSystemLoader, nodes
from paper_world import bench, judge, said, scaling, write_curves, write_run, write_set
from report_world import CFG, make_run
from test_report_parts import bank, make_items

from spct.paper import build as paper
from spct.paper import page as paper_page
from spct.report import build as report
from spct.report import page as report_page

PAGES = (
    *("report/report.html", "report/health/health-base-m.html", "report/health/health-grpo-m.html"),
    *("set/index.html", "set/errors.html"),
)
FOLDERS = [Path(module.__file__).parent for module in (report_page, paper_page)]
POLICY = report_page.policy((report_page.FOLDER / report_page.SCRIPT).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The pages of a run and of a set of runs, as their stages write them."""
    root = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        banks, items = bank(root / "bank", make_items(4), size="m")
        about = {"banks": banks, "items": items, "run": "t", "out": root / "report"}
        report.run(CFG, 0, **make_run(root / "world"), **about)
        held_out = bench()
        folder = write_run(root, "grm", held_out)
        samples = {item.id: [[0] * item.n, [1] * item.n] for item in held_out}
        shards = [judge(folder, held_out, "grpo", said(held_out, set()), samples)]
        write_curves(root, "grm", shards)
        paper.run(scaling(), 0, members=write_set(root, grm=shards), out=root / "set")
        yield root


class Metas(HTMLParser):
    """The policies that a page asks for in its head, before anything it could run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.before: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if (values.get("http-equiv") or "").lower() == "content-security-policy":
            self.found.append(values.get("content") or "")
        elif not self.found:
            self.before.append(tag)


def test_the_list_of_pages_is_whole(made: Path) -> None:
    written = [*made.glob("report/**/*.html"), *made.glob("set/**/*.html")]
    assert {str(path.relative_to(made)) for path in written} == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_for_the_one_policy_first(made: Path, name: str) -> None:
    page = Metas()
    page.feed((made / name).read_text(encoding="utf-8"))
    assert page.found == [POLICY]
    assert page.before == ["html", "head", "meta"]


@pytest.mark.skipif(binary() is None, reason="needs Chromium or Chrome on the PATH to open pages")
def test_the_policy_is_in_force_in_a_browser(made: Path) -> None:
    """A browser tells by which policy it stopped a script, a request and an image."""
    attack = """(() => {
      window.told = [];
      addEventListener('securitypolicyviolation',
        event => told.push([event.effectiveDirective, event.originalPolicy]));
      const script = document.createElement('script');
      script.textContent = 'window.owned = true';
      document.body.append(script);
      const image = document.createElement('img');
      image.src = 'http://127.0.0.1:9/leak';
      document.body.append(image);
      fetch('http://127.0.0.1:9/leak').catch(() => {});
      return !window.owned;
    })()"""
    with Browser() as browser:
        for name in PAGES:
            browser.errors.clear()
            browser.open((made / name).as_uri())
            assert browser.errors == [], name
            assert browser.ask(attack), name
            browser.wait("told.length >= 3")
            told = {directive: policy for directive, policy in browser.ask("told")}
            assert set(told) == {"script-src-elem", "img-src", "connect-src"}, name
            assert set(told.values()) == {POLICY}, name


# ---- what could take the policy away -------------------------------------------------------------


@pytest.mark.parametrize("module", [report_page, paper_page], ids=["report", "paper"])
@pytest.mark.parametrize("name", ["frame", "range"])
def test_a_value_that_hides_a_global_is_refused(module: object, name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' would hide"):
        module.render("page.html.jinja", **{name: "grpo"})  # type: ignore[attr-defined]


def test_a_page_without_the_policy_is_refused(tmp_path: Path) -> None:
    bare = tmp_path / "bare.html.jinja"
    bare.write_text("<html>{% set frame = 1 %}</html>")
    found = report_page.environment().overlay(loader=FileSystemLoader(tmp_path))
    with pytest.raises(ValueError, match="bare.html.jinja: the page lacks its content"):
        report_page.rendered(found, bare.name, {})


def test_no_template_gives_a_name_of_its_own_to_a_global() -> None:
    environment: Environment = report_page.environment()
    files = [path for folder in FOLDERS for path in folder.rglob("*.jinja")]
    assert len(files) > 12
    for path in files:
        tree = environment.parse(path.read_text(encoding="utf-8"))
        stored = {one.name for one in tree.find_all(nodes.Name) if one.ctx in ("store", "param")}
        assert not stored & environment.globals.keys(), path

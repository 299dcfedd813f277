"""What all pages share: how values are written, the style, and the script that sorts tables.

A page holds all that it shows. Its content security policy allows nothing but inline style, images
inside the page and this one script, by its hash: a browser that opens it asks no one for anything,
and markup that slipped in from data could not run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from spct import __version__

FOLDER = Path(__file__).parent
SCRIPT = "sort.js"


@dataclass(frozen=True)
class Frame:
    """What every page has, in the templates the one name ``frame``."""

    version: str
    script: Markup
    policy: Markup  # the element that puts the content security policy in force


def render(template: str, **values: Any) -> str:
    """A page from its template beside this module; every value that is not Markup is escaped."""
    return rendered(environment(), template, values)


def rendered(environment: Environment, template: str, values: Mapping[str, Any]) -> str:
    """A page of an environment with this module's frame.

    Raises ``ValueError`` for a value whose name hides a global of the templates, and for a page
    that lacks the policy: no page is written that a browser would not hold to it.
    """
    if hidden := sorted(values.keys() & environment.globals.keys()):
        raise ValueError(f"{template}: the value {hidden[0]!r} would hide a global of that name")
    text = environment.get_template(template).render(**values) + "\n"
    frame: Any = environment.globals["frame"]
    if text.count(frame.policy) != 1:
        raise ValueError(f"{template}: the page lacks its content security policy")
    return text


@cache
def environment() -> Environment:
    """The templates' environment: filters, and the frame with script and policy."""
    found = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(percent=percent, signed=signed, plain=plain, whole=whole, hash=short_hash)
    script = (FOLDER / SCRIPT).read_text(encoding="utf-8")
    meta = '<meta http-equiv="Content-Security-Policy" content="{}">'
    head = Markup(meta).format(policy(script))
    found.globals["frame"] = Frame(__version__, Markup(script), head)
    return found


def policy(script: str) -> str:
    """The content security policy of a page with this inline script and no other source."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def inline_svg(text: str) -> Markup:
    """The ``<svg>`` element of an SVG file of ours, safe to embed as it is."""
    return Markup(text[text.index("<svg") :])


# ---- how values are written ----------------------------------------------------------------------


def percent(value: float) -> str:
    """A fraction as percent with one decimal, two below one percent, without the sign."""
    if value != value:
        return "–"
    return f"{100 * value:.2f}" if 0 < abs(value) < 0.00995 else f"{100 * value:.1f}"


def signed(value: float, digits: int = 1) -> str:
    """A fraction as points with their sign, never minus zero; a dash for NaN."""
    return "–" if value != value else f"{round(100 * value, digits) + 0.0:+.{digits}f}"


def plain(value: float, digits: int) -> str:
    """A number with so many decimals, never minus zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def whole(value: float) -> str:
    """A whole number with its thousands apart; a dash for NaN."""
    return "–" if value != value else f"{value:,.0f}"


def short_hash(value: str) -> str:
    """Enough of a hash to tell it from others."""
    return value[:16]

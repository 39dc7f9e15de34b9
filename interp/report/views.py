"""Views by circuitsvis, whose bundle is taken from its package and written into the page once, so that it opens without
a network. circuitsvis' own pages load the bundle from one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from interp.report.environment import script_digest
from interp.report.inputs import Study
from interp.report.numbers import number
from interp.report.text import visible_token

TITLES = {
    "deciding": {
        "positive": "Whether to check: after a wrong step",
        "negative": "Whether to check: after a right step",
    },
    "wording": {"positive": "Which word: before a marker", "negative": "Which word: before a neutral word"},
    "executing": {"positive": "The result: of a step worked again", "negative": "The result: of a step worked once"},
}
"""Class and side of its contrast to what is said of it."""
DECIMALS = 3
"""Of attention; more would only make the page larger."""


@dataclass(frozen=True)
class View:
    """One drawing of a page."""

    id: str
    props: Mapping[str, Any]
    title: str


@dataclass(frozen=True)
class Script:
    """A script of a page and the digest under which its policy lets it run."""

    source: Markup
    digest: str


def heads(study: Study) -> list[View]:
    """Attention patterns of the heads that bring the decision to its site: one example of each side of each class."""
    found = []
    for (name, side), rows in study.heads.group_by("class", "side", maintain_order=True):
        shown = [row for row in rows.iter_rows(named=True) if _whole(row)]
        title = TITLES.get(str(name), {}).get(str(side))
        if shown and title:
            found.append(_heads(f"heads-{len(found)}", title, shown))
    return found


def _whole(row: Mapping[str, Any]) -> bool:
    """Whether the pattern is square over its tokens; a damaged one is not drawn."""
    tokens, attention = row["tokens"] or [], row["attention"] or []
    return bool(tokens) and [len(line or []) for line in attention] == [len(tokens)] * len(tokens)


def _heads(name: str, title: str, rows: Sequence[Mapping[str, Any]]) -> View:
    names = [f"{row['layer']}.{row['head']} · {number(row['effect'], 1)}" for row in rows]
    props = {
        "attention": [[[round(w or 0.0, DECIMALS) for w in line] for line in row["attention"]] for row in rows],
        "tokens": [visible_token(token) for token in rows[0]["tokens"]],
        "attentionHeadNames": names,
        "minValue": 0,
        "maxValue": 1,
        "maskUpperTri": True,
    }
    return View(name, props, title)


def scripts(views: Sequence[View]) -> list[Script]:
    """The bundle, and what draws the views."""
    bundle = (files("circuitsvis") / "dist" / "cdn" / "iife.js").read_text(encoding="utf-8")
    calls = "".join(
        f"CircuitsVis.render({in_script(view.id)}, CircuitsVis.AttentionHeads, {in_script(view.props)});\n"
        for view in views
    )
    # The bundle names the end of a script in a string of its own.
    return [_script(bundle.replace("</script", "<\\/script")), _script(calls)]


def in_script(value: Any) -> str:
    """JSON that can stand in a script of a page: circuitsvis writes a token `</script>` as it is, which ends it."""
    return json.dumps(value).replace("<", "\\u003c")


def _script(source: str) -> Script:
    return Script(Markup(source), script_digest(source))

r"""The run as one HTML file that plays offline: the player, its style and the payload, and no way to the network.

Nothing of a run is ever markup: the payload stands in a block of JSON in which every ``<`` is written ``\u003c``, and
the page's policy runs the one script whose hash it names, so that nothing else in the file could run.
"""

from __future__ import annotations

import json
from base64 import b64encode
from functools import cache
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING

from vnmi_lab.timeline import asset, palette, script

if TYPE_CHECKING:
    from vnmi_lab.export.source import Source

ENTRY = "export default"
"""Where the player's module hands itself to anywidget; a page of its own starts it instead."""


def page(source: Source) -> str:
    """Give the page of a run."""
    payload = source.payload
    words = {
        "script": player(),
        "style": asset("player.css"),
        "payload": json.dumps(payload, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "title": escape(payload["title"]),
    }
    parts = skeleton().split("@@")
    return "".join(words[part] if place % 2 else part for place, part in enumerate(parts))


def player() -> str:
    """Give the player's module without its last line, which only anywidget understands."""
    return script("timeline").rpartition(ENTRY)[0]


@cache
def skeleton() -> str:
    """Give the page with ``@@title@@``, ``@@style@@``, ``@@payload@@`` and ``@@script@@`` to fill in.

    A notebook's page fills it in itself when no kernel is there to do it, so the policy is already in it.
    """
    whole = asset("page.html")
    body = whole.partition('<script type="module">')[2].partition("</script>")[0].replace("@@script@@", player())
    digest = b64encode(sha256(body.encode()).digest()).decode()
    whole = whole.replace("SCRIPT-HASH", f"'sha256-{digest}'")
    for theme in ("light", "dark"):
        whole = whole.replace(f"{theme.upper()}-BACKGROUND", palette(theme)["bg"])
    return whole

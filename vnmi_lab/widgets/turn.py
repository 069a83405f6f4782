"""One click at a time: JupyterLab hands the messages of a page to two threads of the kernel.

The first message of each widget goes to the main thread, the later ones to a subshell of ipykernel 7 (seen with
JupyterLab 4.6). So two clicks may be worked at together, and the later one first.
"""

from __future__ import annotations

from threading import RLock

TURN = RLock()
"""Held by whoever works at what a page said. What must not be overtaken comes in one message."""

"""Writes the table of the labs into the README, with a badge that opens each on Binder; --check says if it is old.

Where the repository is published is said in one place: `repository` under `[tool.vnmi-lab]` in pyproject.toml.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from urllib.parse import quote

from vnmi_lab.checks.course import COURSE, Lab

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BADGE = "docs/binder-badge.svg"
BLOCK = re.compile(r"(?<=<!-- labs: make badges -->\n).*?(?=<!-- end of labs -->)", re.DOTALL)
AFTERWARDS = {
    "00": "play, step and check; where an NMI goes",
    "01": "why a second NMI waits, why a third is not kept, and what IRET has to do with it",
    "02": "what VMRUN does with EVENTINJ, what that does *not* block, and how two NMIs end up nested",
    "03": "how KVM finds the moment for the next NMI: its mask, the RIP compare, one step with TF; what all that costs",
    "04": "what bits 11, 12 and 26 of `int_ctl` do, which exits are gone, and why the kick is not",
    "05": "for any moment, what keeps an NMI out, who says so, and until when",
    "06": "where an NMI is whose delivery failed, and how a guest moves without losing one",
    "07": "every hook of KVM's NMI delivery: you wrote them, and a judge tried them under every schedule",
    "08": 'what was wrong in patch v4, in 6.4-rc, in CVE-2024-39483 and in Xen\'s "masked cannot pend"',
    "09": "what an NMI costs with vNMI and without, when that saves nothing, and how to measure it",
}
"""What a learner can say, or do, after each lab."""


def repository() -> str:
    """Return the owner and the name under which the project is published on GitHub."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return str(project["tool"]["vnmi-lab"]["repository"])


def address(lab: Lab, where: str) -> str:
    """Return where Binder opens a lab in JupyterLab."""
    return f"https://mybinder.org/v2/gh/{where}/HEAD?urlpath={quote(f'lab/tree/labs/{lab.notebook}', safe='')}"


def table(where: str) -> str:
    """Return the table of the labs."""
    rows = (
        f"| [{lab.number} {lab.title}](labs/{lab.notebook}) | {lab.minutes} min | {AFTERWARDS[lab.number]} "
        f"| [![Lab {lab.number} on Binder]({BADGE})]({address(lab, where)}) |\n"
        for lab in COURSE
    )
    return "| lab | time | you can say afterwards | Binder |\n|---|---|---|---|\n" + "".join(rows)


def main() -> int:
    """Write, or compare; 1 if a comparison fails."""
    text = README.read_text(encoding="utf-8")
    now = BLOCK.sub(lambda _: table(repository()), text)
    if "--check" in sys.argv[1:]:
        return int(now != text)
    README.write_text(now, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

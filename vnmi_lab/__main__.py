"""`python -m vnmi_lab` is the command `vnmi-lab`."""

from __future__ import annotations

import sys

from vnmi_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""A lab bench for NMI virtualization on AMD SVM."""

from __future__ import annotations

__version__ = "0.1.0"

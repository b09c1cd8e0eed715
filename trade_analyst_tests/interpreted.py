"""Compiled functions run as the Python they are written in, so that coverage sees their lines."""

from __future__ import annotations

from types import ModuleType

import pytest


def interpret(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Put the Python function in the place of each compiled one of these modules, until the test ends."""
    for module in modules:
        for name, value in list(vars(module).items()):
            if hasattr(value, "py_func"):
                monkeypatch.setattr(module, name, value.py_func)

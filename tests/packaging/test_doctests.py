"""The examples in docstrings run, under the names that users import."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.packaging.folders import sources

DOCUMENTED = [name for name, path in sources().items() if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("module", DOCUMENTED)
def test_doctest(module: str):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(importlib.import_module(module), optionflags=flags)
    assert result.failed == 0
    assert result.attempted > 0, "the module has examples, but doctest found none"

"""The operators: importing this package registers every record. ``graphc.ops.<name>`` is the user function of a name."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from ..errors import unknown_name
from ..ir.op import functions, offered, own_all
from ..locate import leaving
from .custom import custom_op as custom_op

# one file a family; a new file is found by itself, so adding an operator touches one file
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
own_all()


def __getattr__(name: str) -> Any:
    found = offered(name)
    if found is not None:
        return found
    if name.startswith("__"):
        raise AttributeError(name)
    try:
        raise unknown_name("graphc.ops", name, functions())
    except AttributeError as e:
        leaving(e)
        raise


def __dir__() -> list[str]:
    return sorted(functions())

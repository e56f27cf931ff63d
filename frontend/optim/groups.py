"""Groups of parameters that have settings of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from graphc.errors import ArgumentError
from graphc.locate import public

from ..module import Module
from ..parameter import Parameter

__all__ = ["Group", "split_groups"]


class Group:
    """Settings for some parameters: ``Group("encoder", lr=1e-4)``.

    ``select`` says which: a path ("encoder": everything at or below it), a pattern ("*.bias"), a module, a parameter, a list of
    these, or a function of (name, parameter) that gives True. A parameter belongs to the first group that takes it. The
    settings are those of the optimiser; ``lr`` becomes a state of its own, so that it too can change without compiling.

    >>> group = Group(lambda name, p: p.ndim == 1, weight_decay=0.0)
    >>> group.takes(Parameter((3,), name="fc.bias"))
    True
    """

    def __init__(self, select: Any, **settings: Any):
        self.select, self.settings = select, settings
        if not (isinstance(select, (str, Module, Parameter, Sequence)) or callable(select)):
            raise ArgumentError(
                f"a group of {select!r}", hint="a path, a pattern, a module, parameters, or a function of (name, parameter)"
            )

    def takes(self, p: Parameter) -> bool:
        return _takes(self.select, p)

    def __repr__(self) -> str:
        return f"Group({', '.join([repr(self.select), *(f'{k}={v!r}' for k, v in self.settings.items())])})"


def _takes(select: Any, p: Parameter) -> bool:
    if isinstance(select, str):
        return p.name == select or p.name.startswith(select + ".") or fnmatchcase(p.name, select)
    if isinstance(select, Module):
        return any(q is p for q in select.parameters())
    if isinstance(select, Parameter):
        return select is p
    if isinstance(select, Sequence):
        return any(_takes(s, p) for s in select)
    return bool(select(p.name, p))


def split_groups(params: Sequence[Any]) -> tuple[list[Parameter], list[Group]]:
    """Parameters, each once, and groups of a list that may hold torch's dicts: ``{"params": [...], "lr": 1e-4}``."""
    flat: list[Parameter] = []
    groups: list[Group] = []
    for item in params:
        if isinstance(item, Mapping):
            if "params" not in item:
                raise ArgumentError(f"a group without params: {sorted(item)}", hint='{"params": module.parameters(), "lr": 1e-4}')
            chosen = [item["params"]] if isinstance(item["params"], Parameter) else list(item["params"])
            twice = [p for p in chosen if any(g.takes(p) for g in groups)]
            if twice:
                raise ArgumentError(
                    f"parameter {twice[0].name!r} is in two groups",
                    hint="each parameter belongs to one group; the optimiser's own settings hold for the others",
                )
            groups.append(Group(chosen, **{k: v for k, v in item.items() if k != "params"}))
            flat += chosen
        elif isinstance(item, Parameter):
            flat.append(item)
        else:
            raise ArgumentError(
                f"cannot minimize over a {type(item).__name__}", hint="a list of parameters: module.parameters()"
            )
    unique = {id(p): p for p in flat}
    return list(unique.values()), groups


public(globals())

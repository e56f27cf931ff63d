"""The record of a measurement that reports and summaries take: what ``gc.profile`` fills, and how it becomes time by module.

A record is a dict (see ``profile`` in ``docs/report.schema.json``): ``launches`` has the seconds of each launch in the order of the
program's launch list (None where one was not measured; inside a loop, all trips together). The rest is optional: ``runs`` (how many
runs the seconds are medians of), ``threads``, ``dims`` (the sizes of named dims), ``timeline`` (``{"launch", "thread", "start", "end"}`` in seconds, of one run),
``barriers`` (``{"thread", "start", "end"}``), and ``machine`` with ``flops_per_second`` and ``bytes_per_second``, the limits that
launches are held against.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError
from ..ir.dims import Size, evaluate
from ..ir.node import Node
from .cost import flops

if TYPE_CHECKING:
    from .measured import Profile

__all__ = ["check_profile", "records_of", "seconds_by_scope"]


def records_of(profile: Profile | Mapping[str, Any] | None, programs: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The records of programs by name: those that a profile (``gc.profile()``) has, or the given ones.

    Raises ArgumentError where a profile has none of them.
    """
    if profile is None:
        return {}
    if isinstance(profile, Mapping):
        return dict(profile)
    found: dict[str, Mapping[str, Any]] = {name: measured.record() for name, p in programs.items() if (measured := profile.of(p)) is not None}
    if not found:
        raise ArgumentError(f"the profile has no run of {' or '.join(programs)}", hint=_ran(profile))
    return found


def _ran(profile: Profile) -> str:
    """What a profile has, for those who look for something else."""
    names = ", ".join(dict.fromkeys(p.name for p in profile.programs))
    return f"what ran in it: {names} (programs that were compiled again since then are others)" if names else "nothing ran in it"


def check_profile(profile: Mapping[str, Any], program: Any) -> Mapping[str, Any]:
    """The record, if it belongs to the program; raises ArgumentError otherwise."""
    count = len(program.schedule.launches()) if hasattr(program, "schedule") else 0
    seconds = profile.get("launches")
    if not isinstance(seconds, (list, tuple)) or len(seconds) != count:
        raise ArgumentError(
            f"a profile of {len(seconds) if isinstance(seconds, (list, tuple)) else 'no'} launches, for a program of {count}",
            hint="launches=[seconds of each launch, in order]",
        )
    return profile


def seconds_by_scope(program: Any, profile: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of each module path: a launch's time goes to the modules of its nodes, by their share of its operations."""
    check_profile(profile, program)
    prov, dims = program.schedule.graph.provenance, program.dims(profile.get("dims"))
    memo: dict[Node, Size] = {}
    out: dict[str, float] = {}
    for launch, seconds in zip(program.schedule.launches(), profile["launches"], strict=True):
        work = [(n, evaluate(flops(n, memo), dims)) for n in launch.nest.nodes]
        total = sum(w for _, w in work)
        for n, w in work:
            share = (seconds or 0.0) * (w / total if total else 1 / len(work))
            names = {s.rpartition("grad:")[2].partition("/")[0] for s in prov.scopes(n)} or {""}
            for name in names:
                out[name] = out.get(name, 0.0) + share / len(names)
    return out

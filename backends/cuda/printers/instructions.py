"""The one table of scalar instructions: how each of them reads in Numba-CUDA source.

An entry is a format string, or one by dtype kind (``f`` float, ``i`` signed, ``u`` unsigned, ``b`` bool; ``*`` any other) of the
first operand. ``{x}``, ``{y}``, ``{z}`` are operands, ``{t}`` the NumPy type of the result, ``{f}`` the suffix of libdevice names ("f"
for float32). Integer results are converted back at once: Numba computes int32 with int32 in 64 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import CompileError
from graphc.ir.dtypes import DType, uint8

__all__ = ["TABLE", "device_functions", "instruction", "literal", "shuffle", "stored_type"]

Entry = str | dict[str, str]


def _libdevice(name: str) -> Entry:
    return {"f": f"libdevice.{name}{{f}}({{x}})", "*": "{x}"}


TABLE: dict[str, Entry] = {
    # what a value is: printed by the emitter, which knows buffers, loops and parameters
    "const": "{t}({attr})",
    "arg": "{attr}",
    "index": "np.int64({attr})",
    "load": "{attr}",
    "acc": "{attr}",
    # arithmetic
    "add": {"f": "{x} + {y}", "*": "{t}({x} + {y})"},
    "sub": {"f": "{x} - {y}", "*": "{t}({x} - {y})"},
    "mul": {"f": "{x} * {y}", "*": "{t}({x} * {y})"},
    "div": {
        "f": "{x} / {y}",
        "i": "{t}({x} // {y} + (1 if {x} % {y} != 0 and ({x} < 0) != ({y} < 0) else 0)) if {y} != 0 else {t}(0)",
        "u": "{t}({x} // {y}) if {y} != 0 else {t}(0)",
    },
    "neg": {"f": "-{x}", "*": "{t}(-{x})"},
    "fma": {"f": "libdevice.fma{f}({x}, {y}, {z})", "*": "{t}({x} * {y} + {z})"},
    "minimum": {"f": "{x} if {x} < {y} or {x} != {x} else {y}", "b": "{x} and {y}", "*": "{x} if {x} < {y} else {y}"},
    "maximum": {"f": "{x} if {x} > {y} or {x} != {x} else {y}", "b": "{x} or {y}", "*": "{x} if {x} > {y} else {y}"},
    "sqrt": _libdevice("sqrt"),
    "floor": _libdevice("floor"),
    "ceil": _libdevice("ceil"),
    "rint": _libdevice("rint"),
    "trunc": _libdevice("trunc"),
    "absolute": {"f": "libdevice.fabs{f}({x})", "i": "{t}(-{x} if {x} < 0 else {x})", "*": "{x}"},
    "ldexp": "libdevice.ldexp{f}({x}, np.int32({y}))",
    "mulhi": "{t}((np.uint64({x}) * np.uint64({y})) >> np.uint64(32))",
    # bits
    "bit_and": {"b": "{x} and {y}", "*": "{t}({x} & {y})"},
    "bit_or": {"b": "{x} or {y}", "*": "{t}({x} | {y})"},
    "bit_xor": {"b": "{x} != {y}", "*": "{t}({x} ^ {y})"},
    "bit_not": {"b": "not {x}", "*": "{t}(~{x})"},
    "shl": "{t}({x} << {y})",
    "shr": "{t}({x} >> {y})",
    # conditions
    "lt": "{x} < {y}",
    "le": "{x} <= {y}",
    "eq": "{x} == {y}",
    "ne": "{x} != {y}",
    "select": "{y} if {x} else {z}",
    # conversions (to bool, and reinterpretations, by the tables below)
    "cast": {"b": "{t}(1) if {x} else {t}(0)", "*": "{t}({x})"},
    "bitcast": "{t}({x})",
}

REINTERPRET = {
    ("float32", "int32"): "libdevice.float_as_int({x})",
    ("float32", "uint32"): "np.uint32(libdevice.float_as_int({x}))",
    ("int32", "float32"): "libdevice.int_as_float({x})",
    ("uint32", "float32"): "libdevice.int_as_float(np.int32({x}))",
    ("float64", "int64"): "libdevice.double_as_longlong({x})",
    ("int64", "float64"): "libdevice.longlong_as_double({x})",
}
"""Same bits, other type; between integers a conversion does it."""

HALVES = {"float16": "half", "bfloat16": "bfloat16"}
"""Types that only lie in memory: a kernel holds their bits as uint16, and converts them from and to float32."""
WORD = DType("uint16", "u16", "u", 2)

SHUFFLED = ("int32", "int64", "float32", "float64")
"""What a shuffle moves as it is; smaller types travel as int32."""


def instruction(op: str, dtype: DType, names: Sequence[str], kinds: Sequence[DType], attr: Any = "") -> str:
    """The text of an instruction with result ``dtype`` on operands of types ``kinds``."""
    entry = TABLE[op]
    first = kinds[0] if kinds else dtype
    if op == "cast" and first.is_storage:
        return f"from_{HALVES[first.name]}({names[0]})"
    if op == "cast" and dtype.is_storage:
        return f"to_{HALVES[dtype.name]}({names[0]})"
    if op == "cast" and dtype.kind == "b":
        entry = "{x} != {zero}"
    elif op == "bitcast" and (first.name, dtype.name) in REINTERPRET:
        entry = REINTERPRET[first.name, dtype.name]
    elif op == "bitcast" and (first.is_float or dtype.is_float):
        raise CompileError(f"bitcast of {first} to {dtype} is not yet on cuda-sim")
    if isinstance(entry, dict):
        found = entry.get(first.kind, entry.get("*"))
        if found is None:
            raise CompileError(f"{op} of {first} is not yet on cuda-sim")
        entry = found
    words = dict(zip("xyz", names))
    return entry.format(
        **words, t=f"np.{stored_type(dtype).numpy.name if dtype.is_storage else dtype.numpy.name}", f="f" if first.name == "float32" else "", attr=attr, zero=literal(0, first)
    )


def stored_type(dtype: DType) -> DType:
    """What an element is in memory: a bool is a byte, a value of 16 bits is a word."""
    return uint8 if dtype.kind == "b" else WORD if dtype.is_storage else dtype


def device_functions(text: str) -> set[str]:
    """The conversions that an instruction calls."""
    return {f"{way}_{name}" for way in ("from", "to") for name in HALVES.values() if text.startswith(f"{way}_{name}(")}


def literal(value: Any, dtype: DType) -> str:
    """A typed constant: an untyped one would make float64 or int64 of everything it meets."""
    if dtype.is_storage:
        return f"np.uint16({int(np.asarray(value, dtype.numpy).view(np.uint16))})"
    if dtype.kind == "b":
        return "True" if value else "False"
    if not dtype.is_float:
        return f"np.{dtype.name}({int(value)})"
    value = float(value)
    text = repr(value) if np.isfinite(value) else "np.nan" if value != value else "np.inf" if value > 0 else "-np.inf"
    return f"np.{dtype.name}({text})"


def shuffle(name: str, dtype: DType, distance: str) -> str:
    """The value of ``name`` on the lane whose number differs in the bits of ``distance``."""
    if dtype.name in SHUFFLED:
        return f"shuffle_xor({name}, {distance})"
    if dtype.kind == "b":
        return f"shuffle_xor(np.int32(1) if {name} else np.int32(0), {distance}) != 0"
    return f"np.{dtype.name}(shuffle_xor(np.int32({name}), {distance}))"


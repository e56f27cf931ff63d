"""Vector math as scalar-IR programs: exp, log, tanh, erf in float32 and float64.

Range reduction and series are the classical ones (Cody & Waite, "Software Manual for the Elementary Functions"; the
rational approximations of tanh and erf are those of Moshier's Cephes library). Measured errors stand in the records.
"""

from __future__ import annotations

import math

from ..ir.dtypes import float64, int32, int64
from ..loops.scalar import Scalar, const

__all__ = ["erf", "exp", "log", "pow_", "tanh"]


def _horner(x: Scalar, coefs: list[float]) -> Scalar:
    """The polynomial with the highest power first, by fused multiply-adds."""
    acc = const(coefs[0], x.dtype)
    for c in coefs[1:]:
        acc = acc.fma(x, c)
    return acc


def _two_to(n: Scalar) -> Scalar:
    """2**n for an integral float n within the normal exponents."""
    if n.dtype == float64:
        return ((n.cast(int64) + 1023) << 52).bitcast(n.dtype)
    return ((n.cast(int32) + 127) << 23).bitcast(n.dtype)


def exp(x: Scalar) -> Scalar:
    """e**x. x = n ln2 + r with |r| <= ln2/2; e**r by its series; scaled in two steps so that subnormals come out right."""
    double = x.dtype == float64
    lo, hi = (-746.0, 710.0) if double else (-104.0, 89.0)
    clamped = x.maximum(lo).minimum(hi)  # maximum keeps NaN
    n = (clamped * 1.4426950408889634).rint()
    if double:
        r = n.fma(-6.93145751953125e-1, clamped)
        r = n.fma(-1.42860682030941723212e-6, r)
        terms = 13
    else:
        r = n.fma(-0.693359375, clamped)
        r = n.fma(2.12194440e-4, r)
        terms = 7
    p = _horner(r, [1.0 / math.factorial(k) for k in range(terms, -1, -1)])
    half = (n * 0.5).floor()
    return p * _two_to(half) * _two_to(n - half)


def log(x: Scalar) -> Scalar:
    """Natural logarithm: x = m 2**e with m in [sqrt(1/2), sqrt(2)), log m = 2 artanh((m-1)/(m+1)) by its series."""
    double = x.dtype == float64
    ints, shift, bias = (int64, 52, 1023) if double else (int32, 23, 127)
    tiny, up = (2.2250738585072014e-308, 2.0**54) if double else (1.17549435e-38, 2.0**25)
    small = x < tiny
    scaled = small.select(x * up, x)
    bits = scaled.bitcast(ints)
    e = ((bits >> shift) - bias).cast(x.dtype) - small.select(const(54.0 if double else 25.0, x.dtype), 0.0)
    mantissa = ((bits & ((1 << shift) - 1)) | (bias << shift)).bitcast(x.dtype)
    big = mantissa > math.sqrt(2.0)
    m = big.select(mantissa * 0.5, mantissa)
    e = big.select(e + 1.0, e)
    f = m - 1.0
    s = f / (m + 1.0)
    z = s * s
    terms = 11 if double else 5
    series = _horner(z, [2.0 / (2 * k + 1) for k in range(terms, 0, -1)]) * z
    # log m = f - s*(f - series) keeps the leading term exact near m = 1
    hi, lo = (6.93145751953125e-1, 1.42860682030941723212e-6) if double else (0.693359375, -2.12194440e-4)
    r = e.fma(lo, f - s * (f - series))
    r = e.fma(hi, r)
    inf, nan = math.inf, math.nan
    r = x.eq(inf).select(const(inf, x.dtype), r)
    r = x.eq(0.0).select(const(-inf, x.dtype), r)
    return (x >= 0.0).select(r, const(nan, x.dtype))


def tanh(x: Scalar) -> Scalar:
    """tanh: an odd rational below 0.625, 1 - 2/(e**2|x| + 1) above."""
    a = x.abs()
    z = x * x
    if x.dtype == float64:
        p = _horner(z, [-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3])
        q = _horner(z, [1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3])
        small = (z * p / q).fma(x, x)
    else:
        p = _horner(z, [-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1])
        small = (z * p).fma(x, x)
    large = 1.0 - 2.0 / (exp(a + a) + 1.0)
    large = (x < 0.0).select(-large, large)
    r = (a < 0.625).select(small, large)
    return x.ne(x).select(x, r)


_ERF_T = [9.60497373987051638749e0, 9.00260197203842689217e1, 2.23200534594684319226e3, 7.00332514112805075473e3, 5.55923013010394962768e4]
_ERF_U = [1.0, 3.35617141647503099647e1, 5.21357949780152679795e2, 4.59432382970980127987e3, 2.26290000613890934246e4, 4.92673942608635921086e4]
_ERFC_P = [
    2.46196981473530512524e-10, 5.64189564831068821977e-1, 7.46321056442269912687e0, 4.86371970985681366614e1, 1.96520832956077098242e2,
    5.26445194995477358631e2, 9.34528527171957607540e2, 1.02755188689515710272e3, 5.57535335369399327526e2,
]  # fmt: skip
_ERFC_Q = [
    1.0, 1.32281951154744992508e1, 8.67072140885989742329e1, 3.54937778887819891062e2, 9.75708501743205489753e2,
    1.82390916687909736289e3, 2.24633760818710981792e3, 1.65666309194161350182e3, 5.57535340817727675546e2,
]  # fmt: skip


def erf(x: Scalar) -> Scalar:
    """The error function: a rational in x**2 below 1, 1 - e**(-x**2) P/Q above (Cephes ndtr.c)."""
    a = x.abs()
    z = x * x
    small = x * (_horner(z, _ERF_T) / _horner(z, _ERF_U))
    b = a.minimum(8.0)
    tail = exp(-(b * b)) * (_horner(b, _ERFC_P) / _horner(b, _ERFC_Q))
    large = 1.0 - tail
    large = (x < 0.0).select(-large, large)
    r = (a < 1.0).select(small, large)
    return x.ne(x).select(x, r)


def pow_(x: Scalar, y: Scalar) -> Scalar:
    """x**y for x >= 0 as e**(y log x); negative x with an integral y by parity; IEEE answers at 0 and for y = 0."""
    magnitude = exp(y * log(x.abs()))
    odd = (y * 0.5).floor().ne(y * 0.5)
    integral = y.floor().eq(y)
    signed = odd.select(-magnitude, magnitude)
    r = (x < 0.0).select(integral.select(signed, const(math.nan, x.dtype)), magnitude)
    return y.eq(0.0).select(const(1.0, x.dtype), r)

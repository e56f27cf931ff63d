"""Vector math as scalar-IR programs: exponentials, logarithms, powers, hyperbolic functions and the error function.

Range reduction and series are the classical ones (Cody & Waite, "Software Manual for the Elementary Functions"; the
rational approximations of tanh and erf are those of Moshier's Cephes library). ``python -m benchmarks.ulp`` measures the
error of every function on compiled kernels, over all float32 values where it has one operand: ``docs/vector_math.md``.

Two styles. What networks compute for every element (exp, log, tanh, ...) works in the operand's own precision. The others
compute a float32 in float64 (:func:`wide`): twice the work, and the rounding at the end is nearly the only error.

Sums of products may become fused multiply-adds (the backend allows contraction, nothing else), so an error-free product is
``p = x * y; e = x.fma(y, -p)``: p has two readers there and stays a product.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from ..ir.dtypes import float32, float64, int32, int64
from ..loops.scalar import Scalar, const

__all__ = [
    "acosh",
    "asinh",
    "atanh",
    "cbrt",
    "copy_sign",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "fmod",
    "hypot",
    "log",
    "log1p",
    "log2",
    "log10",
    "pow_",
    "sign_bit",
    "sinh",
    "tanh",
]

LN2_HI, LN2_LO = 0.6931471803691238, 1.9082149292705877e-10  # 32 bits, so that a product with an exponent is exact
LOG2E_HI, LOG2E_LO = 1.4426950408889634, 2.0355273740931033e-17
LOG10E_HI, LOG10E_LO = 0.4342944819032518, 1.098319650216765e-17
LOG10_2_HI, LOG10_2_LO = 0.3010299955494702, 1.1451100898021838e-10


def wide(fn: Callable[..., Scalar]) -> Callable[..., Scalar]:
    """A float64 program that also serves float32, by computing there in float64."""

    @functools.wraps(fn)
    def run(*xs: Scalar) -> Scalar:
        return fn(*(x.cast(float64) for x in xs)).cast(xs[0].dtype)

    return run


def horner(x: Scalar, coefs: list[float]) -> Scalar:
    """The polynomial with the highest power first, by fused multiply-adds."""
    acc = const(coefs[0], x.dtype)
    for c in coefs[1:]:
        acc = acc.fma(x, c)
    return acc


def two_sum(a: Scalar, b: Scalar) -> tuple[Scalar, Scalar]:
    """The rounded sum and what rounding left out (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def sign_bit(x: Scalar) -> Scalar:
    """Whether the sign bit is set: also for -0 and NaN."""
    return x.bitcast(int64 if x.dtype == float64 else int32) < 0


def copy_sign(x: Scalar, y: Scalar) -> Scalar:
    """``|x|`` with the sign of ``y``."""
    a = x.abs()
    return sign_bit(y).select(-a, a)


def _two_to(n: Scalar) -> Scalar:
    """2**n for an integral float n within the normal exponents.

    Beside 1.5 * 2**52 (2**23 in float32) the last bits of a float count in ones, so its bits end with those of the integer n.
    """
    if n.dtype == float64:
        return (((n + 1.5 * 2.0**52).bitcast(int64) + 1023) << 52).bitcast(n.dtype)
    return (((n + 1.5 * 2.0**23).bitcast(int32) + 127) << 23).bitcast(n.dtype)


# -- exponentials ----------------------------------------------------------------------------------------------------------
def _reduced(x: Scalar) -> tuple[Scalar, Scalar]:
    """(n, r) with x = n ln2 + r and |r| <= ln2 / 2."""
    n = (x * LOG2E_HI).rint()
    hi, lo = (-6.93145751953125e-1, -1.42860682030941723212e-6) if x.dtype == float64 else (-0.693359375, 2.12194440e-4)
    return n, n.fma(lo, n.fma(hi, x))


def _exp_series(r: Scalar) -> Scalar:
    """e**r for |r| <= ln2/2: the series, in float32 with the coefficients of the least largest relative error (3.6e-9)."""
    if r.dtype == float64:
        return horner(r, [1.0 / math.factorial(k) for k in range(13, -1, -1)])
    return horner(r, [0.00138145394, 0.00836874545, 0.0416683890, 0.166665211, 0.49999994, 1.0, 1.0])


def exp(x: Scalar) -> Scalar:
    """e**x. x = n ln2 + r with |r| <= ln2/2; e**r by its series."""
    double = x.dtype == float64
    lo, hi = (-746.0, 710.0) if double else (-104.0, 89.0)
    n, r = _reduced(x.maximum(lo).minimum(hi))  # maximum keeps NaN
    return _exp_series(r).ldexp(n)


def exp2(x: Scalar) -> Scalar:
    """2**x: x = n + r, 2**r = e**(r ln2)."""
    double = x.dtype == float64
    lo, hi = (-1076.0, 1025.0) if double else (-151.0, 129.0)
    clamped = x.maximum(lo).minimum(hi)
    n = clamped.rint()
    return _exp_series((clamped - n) * math.log(2.0)).ldexp(n)


def expm1(x: Scalar) -> Scalar:
    """e**x - 1 as 2 (2**(n-1) (e**r - 1) + (2**(n-1) - 1/2)): nothing cancels, and n = 1024 does not overflow."""
    double = x.dtype == float64
    lo, hi, terms = (-40.0, 710.0, 14) if double else (-20.0, 89.0, 8)
    n, r = _reduced(x.maximum(lo).minimum(hi))
    p = (horner(r, [1.0 / math.factorial(k) for k in range(terms, 1, -1)]) * r).fma(r, r)
    half = _two_to(n - 1.0)
    y = half.fma(p, half - 0.5)
    return (x.abs() < (2.0**-54 if double else 2.0**-25)).select(x, y + y)


# -- logarithms ------------------------------------------------------------------------------------------------------------
def _split(x: Scalar) -> tuple[Scalar, Scalar]:
    """(m, e) with x = m 2**e and m in [sqrt(1/2), sqrt(2)), for positive x."""
    double = x.dtype == float64
    ints, shift, bias = (int64, 52, 1023) if double else (int32, 23, 127)
    tiny, up = (2.2250738585072014e-308, 2.0**54) if double else (1.17549435e-38, 2.0**25)
    small = x < tiny
    bits = small.select(x * up, x).bitcast(ints)
    e = ((bits >> shift) - bias).cast(x.dtype) - small.select(const(54.0 if double else 25.0, x.dtype), 0.0)
    mantissa = ((bits & ((1 << shift) - 1)) | (bias << shift)).bitcast(x.dtype)
    big = mantissa > math.sqrt(2.0)
    return big.select(mantissa * 0.5, mantissa), big.select(e + 1.0, e)


def _log_ends(x: Scalar, r: Scalar) -> Scalar:
    """A logarithm's values at infinity, at 0 and below."""
    inf, nan = math.inf, math.nan
    r = x.eq(inf).select(const(inf, x.dtype), r)
    r = x.eq(0.0).select(const(-inf, x.dtype), r)
    return (x >= 0.0).select(r, const(nan, x.dtype))


def _log_mantissa(f: Scalar, m: Scalar, c: Scalar | None = None) -> Scalar:
    """log m for f = m - 1 (and log(m + c) for a tiny c): f - s (f - series), which keeps the leading term exact."""
    s = f / (m + 1.0)
    z = s * s
    terms = 11 if f.dtype == float64 else 5
    series = horner(z, [2.0 / (2 * k + 1) for k in range(terms, 0, -1)]) * z
    tail = s * (f - series)
    return f - (tail if c is None else tail - c)


def log(x: Scalar) -> Scalar:
    """Natural logarithm: log m = 2 artanh((m-1)/(m+1)) by its series."""
    m, e = _split(x)
    return _log_ends(x, _with_exponent(_log_mantissa(m - 1.0, m), e))


def _with_exponent(r: Scalar, e: Scalar) -> Scalar:
    hi, lo = (6.93145751953125e-1, 1.42860682030941723212e-6) if r.dtype == float64 else (0.693359375, -2.12194440e-4)
    return e.fma(hi, e.fma(lo, r))


def log1p(x: Scalar) -> Scalar:
    """log(1 + x) = log(u + c) with u the rounded sum and c what rounding left out."""
    u, c = two_sum(const(1.0, x.dtype), x)
    m, e = _split(u)
    r = _with_exponent(_log_mantissa(m - 1.0, m, c * (m / u)), e)
    r = (x.abs() < (2.0**-54 if x.dtype == float64 else 2.0**-25)).select(x, r)
    r = x.eq(math.inf).select(x, r)
    r = x.eq(-1.0).select(const(-math.inf, x.dtype), r)
    return (x >= -1.0).select(r, const(math.nan, x.dtype))


@wide
def log2(x: Scalar) -> Scalar:
    """Base 2: e + log m / log 2, the quotient in two parts."""
    m, e = _split(x)
    r = _log_mantissa(m - 1.0, m)
    return _log_ends(x, e + r.fma(LOG2E_HI, r * LOG2E_LO))


@wide
def log10(x: Scalar) -> Scalar:
    """Base 10: e log10(2) + log m / log 10, both in two parts."""
    m, e = _split(x)
    r = _log_mantissa(m - 1.0, m)
    return _log_ends(x, e.fma(LOG10_2_HI, e.fma(LOG10_2_LO, r.fma(LOG10E_HI, r * LOG10E_LO))))


# -- powers ----------------------------------------------------------------------------------------------------------------
def pow_(x: Scalar, y: Scalar) -> Scalar:
    """x**y as e**(y log |x|) with IEEE's signs and special values (those of C's ``pow``).

    The logarithm has some ten bits more than a float64, since an exponent of 700 costs as many. In float32 all is float64.
    """
    if x.dtype == float32:
        return pow_(x.cast(float64), y.cast(float64)).cast(float32)
    inf = const(math.inf, float64)
    a = x.abs()
    m, e = _split(a)
    # log m = 2s + 2/3 s^3 + ... with s = (m-1)/(m+1); s and its cube in two parts
    f = m - 1.0
    d = m + 1.0
    s = f / d
    s_lo = (s.fma(-d, f) - s * (m - (d - 1.0))) / d
    z = s * s
    z_lo = s.fma(s, -z) + (s + s) * s_lo
    cube = s * z
    cube_lo = s.fma(z, -cube) + s.fma(z_lo, s_lo * z)
    third = cube * (2.0 / 3.0)
    third_lo = cube.fma(2.0 / 3.0, -third) + cube.fma(3.700743415417188e-17, cube_lo * (2.0 / 3.0))
    rest = horner(z, [2.0 / (2 * k + 1) for k in range(12, 1, -1)]) * z * cube
    hi, err1 = two_sum(e * LN2_HI, s + s)
    hi, err2 = two_sum(hi, third)
    lo = err1 + err2 + (e.fma(LN2_LO, s_lo + s_lo) + (third_lo + rest))
    p = y * hi
    p_lo = y.fma(hi, -p) + y * lo
    p_lo = (p.abs() < 800.0).select(p_lo, 0.0)  # what overflows has no second part
    n, r = _reduced(p.maximum(-746.0).minimum(710.0))
    magnitude = _exp_series(r + p_lo).ldexp(n)
    # log 0 and log infinity, times y
    zero, infinite = a.eq(0.0), a.eq(inf)
    up = (y > 0.0).select(zero.select(const(0.0, float64), inf), zero.select(inf, 0.0))
    magnitude = (zero | infinite).select(up, magnitude)
    magnitude = y.abs().eq(inf).select((a > 1.0).eq(y > 0.0).select(inf, const(0.0, float64)), magnitude)
    magnitude = a.eq(1.0).select(const(1.0, float64), magnitude)
    integral = y.floor().eq(y)
    odd = (y * 0.5).floor().ne(y * 0.5) & integral
    r = (sign_bit(x) & odd).select(-magnitude, magnitude)
    r = ((x < 0.0) & ~integral & (x > -inf)).select(const(math.nan, float64), r)
    r = (x.ne(x) | y.ne(y)).select(const(math.nan, float64), r)
    return (y.eq(0.0) | x.eq(1.0)).select(const(1.0, float64), r)


@wide
def cbrt(x: Scalar) -> Scalar:
    """The real cube root: a cubic for m in [1, 8), two steps of Halley's method and one of Newton's."""
    a = x.abs()
    tiny = a < 2.2250738585072014e-308
    b = tiny.select(a * 2.0**54, a)
    e = ((b.bitcast(int64) >> 52) - 1023).cast(float64)
    n = (e * (1.0 / 3.0) + 1e-6).floor()  # the quotient is a third away from an integer, or just below one
    m = b * _two_to(n * -1.0) * _two_to(n * -1.0) * _two_to(n * -1.0)
    t = horner(m, [0.00191683, -0.03749812, 0.34002913, 0.7091207])
    for _ in range(2):
        c = t * t * t
        t = t * ((c + m + m) / (c + c + m))
    t = t - (t * t).fma(t, -m) / (3.0 * t * t)
    r = t * _two_to(n) * tiny.select(const(2.0**-18, float64), 1.0)
    return (x.eq(0.0) | ~(a < math.inf)).select(x, copy_sign(r, x))


@wide
def hypot(x: Scalar, y: Scalar) -> Scalar:
    """sqrt(x**2 + y**2), scaled by a power of two so that squares neither overflow nor vanish; infinity wins over NaN."""
    a, b = x.abs(), y.abs()
    big, small = a.maximum(b), a.minimum(b)
    scale = (big > 2.0**500).select(const(2.0**-600, float64), (big < 2.0**-300).select(const(2.0**600, float64), 1.0))
    u, v = big * scale, small * scale
    sq = v * v
    r = u.fma(u, sq).sqrt()
    # one step of Newton's method with the residual in two parts
    rest = (u.fma(u, -(r * r)) + v.fma(v, -sq)) + (sq - r.fma(r, -(r * r)))
    r = (r > 0.0).select(r + rest / (r + r), r) / scale
    return (a.eq(math.inf) | b.eq(math.inf)).select(const(math.inf, float64), r)


# -- hyperbolic functions and their inverses -----------------------------------------------------------------------------------
def tanh(x: Scalar) -> Scalar:
    """tanh: an odd rational below 0.625, 1 - 2/(e**2|x| + 1) above."""
    a = x.abs()
    z = x * x
    if x.dtype == float64:
        p = horner(z, [-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3])
        q = horner(z, [1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3])
        small = (z * p / q).fma(a, a)
    else:
        p = horner(z, [-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1])
        small = (z * p).fma(a, a)
    large = 1.0 - 2.0 / (exp(a + a) + 1.0)
    return copy_sign((a < 0.625).select(small, large), x)


@wide
def sinh(x: Scalar) -> Scalar:
    """(t + t / (t + 1)) / 2 with t = e**|x| - 1; e**(|x|/2) squared where e**|x| overflows."""
    a = x.abs()
    t = expm1(a)
    h = exp(a * 0.5)
    r = (a > 709.0).select(h * 0.5 * h, (t + t / (t + 1.0)) * 0.5)
    return x.eq(0.0).select(x, copy_sign(r, x))


@wide
def cosh(x: Scalar) -> Scalar:
    """(e**|x| + e**-|x|) / 2; e**(|x|/2) squared where e**|x| overflows."""
    a = x.abs()
    e, h = exp(a), exp(a * 0.5)
    return (a > 709.0).select(h * 0.5 * h, e.fma(0.5, 0.5 / e))


@wide
def asinh(x: Scalar) -> Scalar:
    """log(1 + (|x| + x**2 / (1 + sqrt(x**2 + 1)))); log |x| + log 2 for large |x|."""
    a = x.abs()
    big = a > 2.0**28
    z = a * a
    inner = log1p(a + z / ((z + 1.0).sqrt() + 1.0))
    r = big.select(log(a) + math.log(2.0), inner)
    return x.eq(0.0).select(x, copy_sign(r, x))


@wide
def acosh(x: Scalar) -> Scalar:
    """log(1 + (t + sqrt(2 t + t**2))) with t = x - 1; log x + log 2 for large x; NaN below 1."""
    t = x - 1.0
    r = (x > 2.0**28).select(log(x) + math.log(2.0), log1p(t + (t * t + (t + t)).sqrt()))
    return (x >= 1.0).select(r, const(math.nan, float64))


@wide
def atanh(x: Scalar) -> Scalar:
    """log(1 + 2|x| / (1 - |x|)) / 2; infinite at 1, NaN above."""
    a = x.abs()
    return x.eq(0.0).select(x, copy_sign(log1p((a + a) / (1.0 - a)) * 0.5, x))


# -- the error function ------------------------------------------------------------------------------------------------------
# erf(x) / x = 1 + N/U in z = x**2: Cephes' T/U less 1, so that the quotient's error counts an eighth
_ERF_N = [
    -1.0,
    -23.95674042487979357721,
    -431.3319300597684108733,
    -2362.31848376295808761,
    -15625.67492026104266987,
    6324.9070401759041682,
]
_ERF_U = [
    1.0,
    3.35617141647503099647e1,
    5.21357949780152679795e2,
    4.59432382970980127987e3,
    2.26290000613890934246e4,
    4.92673942608635921086e4,
]
_ERFC_P = [
    2.46196981473530512524e-10, 5.64189564831068821977e-1, 7.46321056442269912687e0, 4.86371970985681366614e1, 1.96520832956077098242e2,
    5.26445194995477358631e2, 9.34528527171957607540e2, 1.02755188689515710272e3, 5.57535335369399327526e2,
]  # fmt: skip
_ERFC_Q = [
    1.0, 1.32281951154744992508e1, 8.67072140885989742329e1, 3.54937778887819891062e2, 9.75708501743205489753e2,
    1.82390916687909736289e3, 2.24633760818710981792e3, 1.65666309194161350182e3, 5.57535340817727675546e2,
]  # fmt: skip
_ERFC_R = [
    5.64189583547755073984e-1,
    1.27536670759978104416e0,
    5.01905042251180477414e0,
    6.16021097993053585195e0,
    7.40974269950448939160e0,
    2.97886665372100240670e0,
]
_ERFC_S = [
    1.0,
    2.26052863220117276590e0,
    9.39603524938001434673e0,
    1.20489539808096656605e1,
    1.70814450747565897222e1,
    9.60896809063285878198e0,
    3.36907645100081516050e0,
]


def _erf_below_one(a: Scalar) -> Scalar:
    z = a * a
    return (horner(z, _ERF_N) / horner(z, _ERF_U)).fma(a, a)


_ERF32_NEAR = [-0.00059994083, 0.0049948310, -0.026767720, 0.11281846, -0.37612498, 0.12837915]
_ERF32_FAR = [-0.00021353201, 0.0032113106, -0.022878589, 0.10524463, 0.63573098, 1.1285107]


def erf(x: Scalar) -> Scalar:
    """The error function. float64: a rational in x**2 below 1, 1 - e**(-x**2) P/Q above (Cephes ndtr.c).

    float32 without a division: x + x P(x**2) below 0.92 and 1 - e**-(|x| Q(|x|)) above, with fits of our own to erf(x)/x - 1 and to
    -log(1 - erf x) / x up to 4, behind which the result is 1. Their largest errors, weighted by what they change in the result
    (Lawson's method), are 0.26 and 0.05 units of 2**-24.
    """
    a = x.abs()
    if x.dtype == float32:
        near = horner(x * x, _ERF32_NEAR).fma(x, x)
        b = a.minimum(4.0)
        return (a < 0.92).select(near, copy_sign(1.0 - exp(-(horner(b, _ERF32_FAR) * b)), x))
    b = a.minimum(8.0)
    large = 1.0 - exp(-(b * b)) * (horner(b, _ERFC_P) / horner(b, _ERFC_Q))
    return copy_sign((a < 1.0).select(_erf_below_one(a), large), x)


@wide
def erfc(x: Scalar) -> Scalar:
    """1 - erf x without cancellation: 1/2 - (erf x - 1/2) below 1, e**(-x**2) P/Q above, with the square in two parts."""
    a = x.abs()
    near = _erf_below_one(a)
    b = a.minimum(30.0)
    square = b * b
    rational = (b < 8.0).select(horner(b, _ERFC_P) / horner(b, _ERFC_Q), horner(b, _ERFC_R) / horner(b, _ERFC_S))
    e = exp(-square)
    far = e.fma(-b.fma(b, -square), e) * rational
    tail = (a < 1.0).select(0.5 - (near - 0.5), far)
    r = (x < 0.0).select((a < 1.0).select(1.0 + near, 2.0 - far), tail)
    return x.ne(x).select(x, r)


# -- remainders --------------------------------------------------------------------------------------------------------------
def fmod(x: Scalar, y: Scalar) -> Scalar:
    """The remainder of x / y with the sign of x. Exact: a multiple q y with q of 53 bits leaves a remainder that fits, so each
    step takes 2**52 off the quotient. Six of them hold every float32; for float64 three are made, enough for |x / y| < 2**150.
    """
    if x.dtype == float32:
        return _fmod(x.cast(float64), y.cast(float64), 6).cast(float32)
    return _fmod(x, y, 3)


def _fmod(x: Scalar, y: Scalar, steps: int) -> Scalar:
    r = x
    for _ in range(steps):
        r = (r / y).trunc().fma(-y, r)
    # a quotient that was rounded up to an integer leaves a remainder of the other sign
    r = (r.ne(0.0) & (r < 0.0).ne(x < 0.0)).select(r + copy_sign(y, x), r)
    r = (y.abs().eq(math.inf) & (x.abs() < math.inf)).select(x, r)
    return r.eq(0.0).select(copy_sign(r, x), r)

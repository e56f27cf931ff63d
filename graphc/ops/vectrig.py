"""Vector math as scalar-IR programs: circular functions and their inverses.

The sine and cosine need the argument's place within a quarter turn. float32: float64 products with 2/pi in pieces of 29 bits
are exact, so whole turns drop out without error however large the argument is (Payne & Hanek's idea in floating point). float64:
Cody & Waite's subtraction with pi/2 in three parts, in double-double; enough for |x| < 2**40, beyond which accuracy is lost.
"""

from __future__ import annotations

import math

from ..ir.dtypes import float32, float64, int32
from ..loops.scalar import Scalar, const
from .vecmath import copy_sign, horner, sign_bit, two_sum, wide

__all__ = ["acos", "asin", "atan", "atan2", "cos", "sin", "tan"]

# 2/pi times 2**0, 2**17 and 2**61, without multiples of 4, in pieces of 29 bits (the last one rounded)
TURNS = [
    [0.6366197690367699, 3.3308114738561656e-09, 2.276010047810136e-18, 2.5268260333447567e-26, 2.2383930857039694e-35],
    [3.0268037617206573, 1.901142243632137e-09, 4.265581744208119e-18, 7.796879608964379e-27, 4.120451161117956e-35],
    [1.2481219097971916, 6.110577308038323e-09, 9.980467053260704e-18, 8.723595257375475e-27, 3.764006138364269e-35],
]
PI_2 = [1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33]  # pi/2 in three float64 parts


def _quarters_f32(x: Scalar) -> tuple[Scalar, Scalar]:
    """(quarter turns, angle) of a float32 as float64; both error and remainder stay exact for every finite argument.

    Above 2**40 the argument is a multiple of 2**17 and above 2**84 of 2**61: there 2/pi may be scaled and lose its multiples of
    4 (whole turns), and the argument is scaled back.
    """
    a = x.abs()
    huge, large = a > 2.0**84, a > 2.0**40

    def choose(v0: float, v1: float, v2: float) -> Scalar:
        return huge.select(const(v2, float64), large.select(const(v1, float64), v0))

    v = x * choose(1.0, 2.0**-17, 2.0**-61)
    pieces = [v * choose(*column) for column in zip(*TURNS, strict=True)]
    whole = [(p * 0.25).rint().fma(-4.0, p) for p in pieces[:3]]
    s, e1 = two_sum(whole[0], whole[1])
    s, e2 = two_sum(s, whole[2])
    n = s.rint()
    r = ((s - n) + pieces[3]) + ((e1 + e2) + pieces[4])
    return n, r * PI_2[0]


def _quarters_f64(x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """(quarter turns, angle, what rounding left of the angle) of a float64."""
    n = (x * (2.0 / math.pi)).rint()
    w = n * PI_2[0]
    w_lo = n.fma(PI_2[0], -w)
    v = n * PI_2[1]
    v_lo = n.fma(PI_2[1], -v)
    s, e1 = two_sum(x - w, -w_lo)
    s, e2 = two_sum(s, -v)
    rest = n.fma(-PI_2[2], (e1 + e2) - v_lo)
    hi = s + rest
    return n, hi, (s - hi) + rest


# fdlibm's kernels on [-pi/4, pi/4]
_SIN = [
    1.58969099521155010221e-10,
    -2.50507602534068634195e-08,
    2.75573137070700676789e-06,
    -1.98412698298579493134e-04,
    8.33333333332248946124e-03,
    -1.66666666666666324348e-01,
]
_COS = [
    -1.13596475577881948265e-11,
    2.08757232129817482790e-09,
    -2.75573143513906633035e-07,
    2.48015872894767294178e-05,
    -1.38888888888741095749e-03,
    4.16666666666666019037e-02,
]


def _turned(x: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """(sine, cosine of the angle within its quarter turn, number of the quarter turn 0..3), as float64 and int32."""
    if x.dtype == float32:
        n, r = _quarters_f32(x.cast(float64))
        z = r * r
        s = (r * z).fma(horner(z, _SIN[2:]), r)
        c = z.fma(-0.5, 1.0) + z * z * horner(z, _COS[2:])
    else:
        n, r, lo = _quarters_f64(x)
        z = r * r
        s = r + (r * z).fma(horner(z, _SIN), lo * z.fma(-0.5, 1.0))
        half = z * 0.5
        w = 1.0 - half
        c = w + (((1.0 - w) - half) + (z * z).fma(horner(z, _COS), -(r * lo)))
    # n may exceed an int32: only its value modulo 4 counts
    return s, c, (n * 0.25).floor().fma(-4.0, n).cast(int32)


def sin(x: Scalar) -> Scalar:
    """The sine; NaN at infinity."""
    s, c, q = _turned(x)
    r = (q & 1).eq(1).select(c, s)
    r = (q >= 2).select(-r, r).cast(x.dtype)
    return (x.abs() < (2.0**-28 if x.dtype == float64 else 2.0**-13)).select(x, r)


def cos(x: Scalar) -> Scalar:
    """The cosine; NaN at infinity."""
    s, c, q = _turned(x)
    r = (q & 1).eq(1).select(s, c)
    return (q.eq(1) | q.eq(2)).select(-r, r).cast(x.dtype)


def tan(x: Scalar) -> Scalar:
    """The quotient of sine and cosine; NaN at infinity."""
    s, c, q = _turned(x)
    odd = (q & 1).eq(1)
    r = (odd.select(-c, s) / odd.select(s, c)).cast(x.dtype)
    return (x.abs() < (2.0**-28 if x.dtype == float64 else 2.0**-13)).select(x, r)


# -- inverses ----------------------------------------------------------------------------------------------------------------
_ASIN_P = [
    3.47933107596021167570e-05,
    7.91534994289814532176e-04,
    -4.00555345006794114027e-02,
    2.01212532134862925881e-01,
    -3.25565818622400915405e-01,
    1.66666666666666657415e-01,
]
_ASIN_Q = [7.70381505559019352791e-02, -6.88283971605453293030e-01, 2.02094576023350569471e00, -2.40339491173441421878e00, 1.0]


def _asin_tail(z: Scalar) -> Scalar:
    """asin(u) = u + u * this, for z = u**2 <= 1/4 (fdlibm)."""
    return z * horner(z, _ASIN_P) / horner(z, _ASIN_Q)


def _upper(a: Scalar) -> tuple[Scalar, Scalar]:
    """asin(sqrt((1 - a) / 2)) in two parts, for a in [1/2, 1]; NaN above 1."""
    t = (1.0 - a) * 0.5
    s = t.sqrt()
    missing = (s > 0.0).select(s.fma(-s, t) / (s + s), 0.0)  # of the square root
    return s, s.fma(_asin_tail(t), missing)


@wide
def asin(x: Scalar) -> Scalar:
    """x + x R(x**2) below 1/2, pi/2 - 2 asin(sqrt((1 - |x|) / 2)) above; NaN beyond 1."""
    a = x.abs()
    s, tail = _upper(a)
    high = PI_2[0] - ((s + s) - (PI_2[1] - (tail + tail)))
    low = a.fma(_asin_tail(a * a), a)
    return copy_sign((a < 0.5).select(low, high), x)


@wide
def acos(x: Scalar) -> Scalar:
    """pi/2 - asin x below 1/2; 2 asin(sqrt((1 - x) / 2)) above, pi minus that for negative x; NaN beyond 1."""
    a = x.abs()
    s, tail = _upper(a)
    high = s + tail
    high = (x < 0.0).select(2.0 * (PI_2[0] - (s + (tail - PI_2[1]))), high + high)
    low = PI_2[0] - (x - (PI_2[1] - x * _asin_tail(x * x)))
    return (a < 0.5).select(low, high)


_ATAN_P = [
    -8.750608600031904122785e-1,
    -1.615753718733365076637e1,
    -7.500855792314704667340e1,
    -1.228866684490136173410e2,
    -6.485021904942025371773e1,
]
_ATAN_Q = [
    1.0,
    2.485846490142306297962e1,
    1.650270098316988542046e2,
    4.328810604912902668951e2,
    4.853903996359136964868e2,
    1.945506571482613964425e2,
]


def _atan_positive(a: Scalar) -> Scalar:
    """The arc tangent for a >= 0, reduced at tan(pi/8) and tan(3 pi/8) (Cephes atan.c)."""
    big, middle = a > 2.414213562373095, a > 0.66
    t = big.select(-1.0 / a, middle.select((a - 1.0) / (a + 1.0), a))
    z = t * t
    r = (t * z).fma(horner(z, _ATAN_P) / horner(z, _ATAN_Q), t)
    base = big.select(const(PI_2[0], a.dtype), middle.select(const(PI_2[0] * 0.5, a.dtype), 0.0))
    low = big.select(const(PI_2[1], a.dtype), middle.select(const(PI_2[1] * 0.5, a.dtype), 0.0))
    return base + (r + low)


@wide
def atan(x: Scalar) -> Scalar:
    """The arc tangent."""
    return copy_sign(_atan_positive(x.abs()), x)


@wide
def atan2(y: Scalar, x: Scalar) -> Scalar:
    """The angle of the point (x, y), from -pi to pi; signs of zeros and infinities as in C."""
    a, b = y.abs(), x.abs()
    big, small = a.maximum(b), a.minimum(b)
    ratio = small.eq(big).select(const(1.0, float64), small / big)
    ratio = big.eq(0.0).select(const(0.0, float64), ratio)
    r = _atan_positive(ratio)
    r = (a > b).select(PI_2[0] - (r - PI_2[1]), r)
    r = sign_bit(x).select(2.0 * PI_2[0] - (r - 2.0 * PI_2[1]), r)
    return (x.ne(x) | y.ne(y)).select(const(math.nan, float64), copy_sign(r, y))

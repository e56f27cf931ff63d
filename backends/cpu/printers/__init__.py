"""One printer per kind of nest: loop IR in, Numba source text out."""

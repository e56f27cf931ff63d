"""Printers of nests as Numba-CUDA source: one a kind of nest, and one table of scalar instructions."""

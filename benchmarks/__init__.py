"""Ours and the peers, interleaved, each in its own process: ``python -m benchmarks --help``."""

"""Tools for testing operators, models and passes: gradient checks, graph comparison, random graphs.

>>> import numpy as np
>>> check_grads(lambda x: (x * x).sum(), np.array([1.0, 2.0]), order=2)
"""

from __future__ import annotations

from .build import build_graph
from .compare import assert_graph_equal, graph_equal
from .gradients import check_grads
from .random import random_graph, random_graphs

__all__ = ["assert_graph_equal", "build_graph", "check_grads", "graph_equal", "random_graph", "random_graphs"]

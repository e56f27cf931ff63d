"""Optimisers. Learning rate, step counter and moments are state of the model's store, never constants of a kernel.

An optimiser is an object of settings with torch's names and defaults; it gets its parameters from ``gc.compile`` or
``minimize``. What every optimiser can do besides (groups of parameters, clipping, penalties, accumulation, averages, a
schedule of the learning rate) is told in :class:`Optimizer`.

>>> import graphc as gc
>>> from graphc import nn, optim
>>> optimizer = optim.AdamW(
...     1e-3,
...     clip_norm=1.0,
...     accumulate=2,
...     schedule=optim.schedules.Cosine(T_max=1000),
...     groups=[optim.Group("0", lr=1e-4), optim.Group("*.bias", weight_decay=0.0)],
... )
>>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
>>> model = gc.compile(net, gc.spec("N", 2), loss="mse", optimizer=optimizer, target="reference")
>>> sorted(model.train_on_batch([[1.0, 2.0]], [[1.0]])), sorted(model.learning_rates)
(['loss'], ['lr', 'lr_1'])
"""

from __future__ import annotations

from . import schedules
from .adam import Adam, Adamax, AdamW, NAdam, RAdam
from .adaptive import Adadelta, Adagrad, RMSprop
from .base import Optimizer, as_optimizer
from .gradients import clip_by_global_norm, clip_by_norm, clip_by_value, penalty
from .groups import Group
from .large_batch import LAMB
from .sgd import SGD
from .sign import Lion

__all__ = [
    "LAMB",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Group",
    "Lion",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "as_optimizer",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "penalty",
    "schedules",
]

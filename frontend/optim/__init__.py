"""Optimisers. Learning rate, step counter and moments are state of the model's store, never constants of a kernel.

An optimiser is an object of settings with torch's names and defaults; it gets its parameters from ``gc.compile`` or
``minimize``. What every optimiser can do besides (groups of parameters, clipping, penalties, accumulation, averages, a
schedule of the learning rate) is told in :class:`Optimizer`.
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

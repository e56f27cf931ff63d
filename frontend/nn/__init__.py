"""Layers, named and parametrised as torch's."""

from __future__ import annotations

from ..module import Module
from ..parameter import Buffer, Parameter
from . import functional
from .activation import ELU, GELU, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from .conv import AvgPool2d, Conv2d, MaxPool2d
from .embedding import Embedding
from .linear import Linear
from .normalise import Dropout, LayerNorm
from .structure import Flatten, Identity, Sequential

__all__ = [
    "ELU",
    "GELU",
    "AvgPool2d",
    "Buffer",
    "Conv2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "Identity",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool2d",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "functional",
]

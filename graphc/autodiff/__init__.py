"""Automatic differentiation on graphs."""

from __future__ import annotations

from .reverse import gradients

__all__ = ["gradients"]

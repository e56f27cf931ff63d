"""Optimiser updates: one step of the other library's optimiser from given moments."""

from __future__ import annotations

import numpy as np

from tests.ops.lazy_torch import torch

EXEMPT = {
    "lion_update": "the paper's formula in NumPy, and optax where it is installed: test_optimizers.py",
    "lamb_update": "the paper's formula in NumPy, and optax where it is installed: test_optimizers.py",
}


def _jax_step(optimizer, step, grad, state):
    """One step of an optimiser of JAX's library from given moments, for one parameter."""
    init, update, _ = optimizer
    packed = init(state[0])._replace(packed_state=(state,))
    return update(step, grad, packed).packed_state[0]


def _sgd(p, g, m, lr, step=None, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    from jax.example_libraries import optimizers

    g = g + weight_decay * p
    if not momentum:
        return (*_jax_step(optimizers.sgd(lr), 0, g, (p,)), m)
    g = g * (1 - dampening if step is not None and step > 1 else 1)
    return tuple(_jax_step((optimizers.nesterov if nesterov else optimizers.momentum)(lr, momentum), 0, g, (p, m)))


def _adam(p, g, m, v, step, lr, top=None, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    from jax.example_libraries import optimizers

    g, p = (g, p - lr * weight_decay * p) if decoupled else (g + weight_decay * p, p)
    rest = () if top is None else (np.maximum(top, betas[1] * v + (1 - betas[1]) * g * g),)
    if not rest:
        return tuple(_jax_step(optimizers.adam(lr, *betas, eps), int(step) - 1, g, (p, m, v)))
    # AMSGrad is Adam whose new second moment is the maximum: give it the old one that leads there
    moved = _jax_step(optimizers.adam(lr, *betas, eps), int(step) - 1, g, (p, m, (rest[0] - (1 - betas[1]) * g * g) / betas[1]))
    return (moved[0], moved[1], betas[1] * v + (1 - betas[1]) * g * g, *rest)


def _torch_step(name, p, g, lr, state, back, **settings):
    """One step of ``torch.optim.<name>`` from a given state -> the parameter and the state entries named in ``back``."""
    param = p.clone().requires_grad_()
    param.grad = g.clone()
    if "decoupled" in settings:
        settings["decoupled_weight_decay"] = settings.pop("decoupled")
    optimizer = getattr(torch.optim, name)([param], lr=float(lr), foreach=False, **settings)
    optimizer.state[param].update({k: v.clone() for k, v in state.items()})
    optimizer.step()
    return (param.detach(), *(optimizer.state[param][k] for k in back))


def _before(step):
    return torch.tensor(float(step) - 1, dtype=torch.float64)


def _torch_sgd(p, g, m, lr, step=None, momentum=0.0, **k):
    first = momentum and step is not None and step == 1 and k.get("dampening")
    if first:  # torch has no buffer before its first step; the record's starts from the given one
        k["dampening"] = 0.0
    out = _torch_step("SGD", p, g, lr, {"momentum_buffer": m}, ("momentum_buffer",) if momentum else (), momentum=momentum, **k)
    return out if momentum else (*out, m)


def _torch_adam(p, g, m, v, step, lr, top=None, decoupled=False, **k):
    state = {"step": _before(step), "exp_avg": m, "exp_avg_sq": v} | ({} if top is None else {"max_exp_avg_sq": top})
    k["weight_decay"] = k.get("weight_decay", 0.0)
    return _torch_step("AdamW" if decoupled else "Adam", p, g, lr, state, list(state)[1:], amsgrad=top is not None, **k)


def _torch_nadam(p, g, m, v, product, step, lr, **k):
    state = {"step": _before(step), "exp_avg": m, "exp_avg_sq": v, "mu_product": product.double()}
    return _torch_step("NAdam", p, g, lr, state, ("exp_avg", "exp_avg_sq", "mu_product"), **k)


def _torch_radam(p, g, m, v, step, lr, **k):
    state = {"step": _before(step), "exp_avg": m, "exp_avg_sq": v}
    return _torch_step("RAdam", p, g, lr, state, ("exp_avg", "exp_avg_sq"), **k)


def _torch_adamax(p, g, m, u, step, lr, **k):
    state = {"step": _before(step), "exp_avg": m, "exp_inf": u}
    return _torch_step("Adamax", p, g, lr, state, ("exp_avg", "exp_inf"), **k)


def _torch_adagrad(p, g, s, step, lr, **k):
    return _torch_step("Adagrad", p, g, lr, {"step": _before(step), "sum": s}, ("sum",), **k)


def _torch_adadelta(p, g, s, d, lr, **k):
    return _torch_step("Adadelta", p, g, lr, {"step": _before(1), "square_avg": s, "acc_delta": d}, ("square_avg", "acc_delta"), **k)


def _torch_rmsprop(p, g, s, lr, m=None, mean=None, momentum=0.0, **k):
    given = {"square_avg": s, "momentum_buffer": m, "grad_avg": mean}
    state = {n: v for n, v in given.items() if v is not None}
    return _torch_step("RMSprop", p, g, lr, {"step": _before(1), **state}, list(state), momentum=momentum, centered=mean is not None, **k)


JAX = {"sgd_update": _sgd, "adam_update": _adam}

TORCH = {
    "adadelta_update": _torch_adadelta,
    "adagrad_update": _torch_adagrad,
    "adam_update": _torch_adam,
    "adamax_update": _torch_adamax,
    "nadam_update": _torch_nadam,
    "radam_update": _torch_radam,
    "rmsprop_update": _torch_rmsprop,
    "sgd_update": _torch_sgd,
}

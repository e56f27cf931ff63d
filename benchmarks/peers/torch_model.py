"""The workload in torch; torch_eager and torch_compile time it."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.peers import NotAvailable
from benchmarks.workloads import BETA1, BETA2, EPS, LEARNING_RATE, MLP

try:
    import torch
except ImportError as error:
    raise NotAvailable("torch is not installed: pip install -r tests/oracles.txt") from error


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


def data(workload: MLP) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = workload.data()
    return torch.from_numpy(x), torch.from_numpy(y)


def model(workload: MLP) -> torch.nn.Module:
    layers: list[torch.nn.Module] = []
    for w, b in workload.weights():
        linear = torch.nn.Linear(*w.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w.T))
            linear.bias.copy_(torch.from_numpy(b))
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def trainer(
    workload: MLP, adam: dict[str, bool], wrap: Callable[[Callable], Callable] = lambda f: f
) -> Callable[[], torch.Tensor]:
    """One training step; ``wrap`` may compile the forward pass with its loss."""
    net, (x, y) = model(workload), data(workload)
    optimizer = torch.optim.Adam(net.parameters(), LEARNING_RATE, betas=(BETA1, BETA2), eps=EPS, **adam)
    loss_of = wrap(lambda x, y: torch.nn.functional.cross_entropy(net(x), y))

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step

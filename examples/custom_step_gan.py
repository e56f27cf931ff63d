"""A generative adversarial network (Goodfellow et al. 2014), with a training step of its own.

    python examples/custom_step_gan.py

The data are points around eight places on a circle. A generator turns noise into points; a discriminator tells them from real ones;
each learns from the other. ``gc.step`` compiles both updates, with two losses and two optimisers, into one graph: the noise is drawn
inside, and the generator's loss sees the discriminator as it is after its update.
"""

from __future__ import annotations

import numpy as np
from common import BLUE, ORANGE, amount, figure, options, table

import graphc as gc
from graphc import nn, ops, optim

MODES, SPREAD, NOISE, BLUR = 8, 0.05, 4, 0.15
CENTRES = np.stack([f(2 * np.pi * np.arange(MODES) / MODES) for f in (np.cos, np.sin)], axis=1)


def network(inputs: int, outputs: int, width: int = 64) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, outputs))


def points(random: np.random.Generator, count: int) -> np.ndarray:
    return (CENTRES[random.integers(0, MODES, count)] + SPREAD * random.normal(size=(count, 2))).astype(np.float32)


def judge(made: np.ndarray) -> tuple[float, int]:
    """The share of points within five spreads of a place, and how many of the places have at least 2 % of them."""
    distance = np.linalg.norm(made[:, None] - CENTRES, axis=2)
    good = distance.min(1) < 5 * SPREAD
    counts = np.bincount(distance.argmin(1)[good], minlength=MODES)
    return float(good.mean()), int((counts > 0.02 * len(made)).sum())


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "custom_step_gan", argv)
    generator, discriminator = network(NOISE, 2), network(2, 1)
    g_optimizer, d_optimizer = optim.Adam(1e-3, betas=(0.5, 0.999)), optim.Adam(1e-3, betas=(0.5, 0.999))

    def real_or_not(logits, answer):
        return ops.binary_cross_entropy_with_logits(logits, ops.full_like(logits, answer))

    def seen(x):
        """Blurred: a discriminator that sees points too sharply drives the generator from place to place."""
        return discriminator(x + BLUR * gc.random.normal(x.shape))

    def step(real):
        made = generator(gc.random.normal((real.shape[0], NOISE)))
        d_loss = real_or_not(seen(real), 1.0) + real_or_not(seen(gc.stop_gradient(made)), 0.0)
        d_optimizer.minimize(d_loss, discriminator.parameters())
        g_loss = real_or_not(seen(made), 1.0)
        g_optimizer.minimize(g_loss, generator.parameters())
        return {"discriminator": d_loss, "generator": g_loss}

    train = gc.step(step, gc.spec("N", 2), target=args.target)
    sample = gc.compile(lambda z: generator(z), gc.spec("N", NOISE), target=args.target)

    random = np.random.default_rng(args.seed)
    noise = random.normal(size=(1000, NOISE)).astype(np.float32)
    steps = amount(args, 12000, 3000, 200)
    rows, stages, losses = [], {}, {"discriminator": float("nan"), "generator": float("nan")}
    for i in range(steps + 1):
        if i % (steps // 4) == 0:
            stages[i] = sample(noise)
            rows.append([i, *judge(stages[i]), *losses.values()])
        losses = {k: float(v) for k, v in train(points(random, 256)).items()}
    table(["step", "near a place", "places", "loss of discriminator", "loss of generator"], rows)

    with figure(args, 1, len(stages), size=(11, 2.6), sharex=True, sharey=True) as (_, axes):
        real = points(random, 500)
        for ax, (i, made) in zip(axes, stages.items(), strict=True):
            ax.plot(*real.T, ".", color=BLUE, markersize=2, alpha=0.4)
            ax.plot(*made[:500].T, ".", color=ORANGE, markersize=2)
            ax.set_title(f"step {i}")
            ax.set_aspect("equal")
    share, modes = judge(stages[steps])
    return {"near": share, "places": modes, "at first": judge(stages[0])[0]}


if __name__ == "__main__":
    main()

"""A variational autoencoder (Kingma & Welling 2014) of handwritten digits, with a training step of its own.

    python examples/vae_digits.py

The encoder gives a mean and a variance of two hidden numbers for each image, the decoder an image for two numbers. In training the
numbers are drawn (``gc.random.normal`` inside the compiled step) and the loss is the negative evidence lower bound: the cross entropy
of the pixels plus the divergence of the drawn numbers from a standard normal distribution. Two principal components are the
yardstick: linear, and made for the smallest squared error.
"""

from __future__ import annotations

import numpy as np
from common import amount, figure, need, options, table

import graphc as gc
from graphc import nn, ops, optim

HIDDEN = 2


class VAE(nn.Module):
    def __init__(self, pixels: int = 64, width: int = 128):
        self.encoder = nn.Sequential(nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2 * HIDDEN))
        self.decoder = nn.Sequential(nn.Linear(HIDDEN, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, pixels))

    def forward(self, x):
        """(N, pixels) -> mean (N, 2), logarithm of the variance (N, 2), logits of the pixels."""
        code = self.encoder(x)
        mean, log_variance = code[:, :HIDDEN], code[:, HIDDEN:]
        z = mean + (log_variance * 0.5).exp() * gc.random.normal(mean.shape) if self.training else mean
        return mean, log_variance, self.decoder(z)


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "vae_digits", argv)
    images, labels = need("sklearn.datasets").load_digits(return_X_y=True)
    x, x_test, _, y_test = gc.data.split((images / 16).astype(np.float32), labels, fraction=0.2, seed=args.seed)
    vae, optimizer = VAE(), optim.Adam(2e-3)

    def step(x):
        mean, log_variance, logits = vae(x)
        pixels = ops.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1).mean()
        divergence = ((mean * mean + log_variance.exp() - log_variance - 1.0) * 0.5).sum(1).mean()
        optimizer.minimize(pixels + divergence, vae.parameters())
        return {"loss": pixels + divergence, "pixels": pixels, "divergence": divergence}

    train = gc.step(step, gc.spec("N", 64), target=args.target)
    encode = gc.compile(lambda x: vae(x)[0], gc.spec("N", 64), target=args.target)
    decode = gc.compile(lambda z: vae.decoder(z).sigmoid(), gc.spec("N", HIDDEN), target=args.target)

    random = np.random.default_rng(args.seed)
    epochs, rows = amount(args, 300, 60, 12), []
    for epoch in range(1, epochs + 1):
        order = random.permutation(len(x))
        parts = [train(x[order[i : i + 64]]) for i in range(0, len(x) - 63, 64)]
        if epoch == 1 or epoch % (epochs // 4) == 0:
            rows.append([epoch, *(float(np.mean([p[k] for p in parts])) for k in ("loss", "pixels", "divergence"))])
    table(["epoch", "loss", "pixels", "divergence"], rows)

    pca = need("sklearn.decomposition").PCA(HIDDEN).fit(x)
    codes = encode(x_test)
    error = float(np.mean((decode(codes) - x_test) ** 2))
    linear = float(np.mean((pca.inverse_transform(pca.transform(x_test)) - x_test) ** 2))
    print()
    table(["squared error of a pixel, test images", "value"], [["two numbers of the VAE", error], ["two principal components", linear]])

    with figure(args, 1, 2, size=(8.4, 3.9)) as (fig, (left, right)):
        points = left.scatter(*codes.T, c=y_test, cmap="tab10", s=8)
        fig.colorbar(points, ax=left, ticks=range(10))
        left.set_title("test images by their two numbers")
        side = np.linspace(-2, 2, 12, dtype=np.float32)
        grid = np.stack(np.meshgrid(side, side[::-1]), axis=-1).reshape(-1, 2)
        made = decode(grid).reshape(12, 12, 8, 8).transpose(0, 2, 1, 3).reshape(96, 96)
        right.imshow(made, cmap="gray_r", extent=(-2.2, 2.2, -2.2, 2.2))
        right.set_title("images made from numbers")
        right.grid(False)
    return {"error": error, "pca": linear, "first loss": rows[0][1], "loss": rows[-1][1], "divergence": rows[-1][3]}


if __name__ == "__main__":
    main()

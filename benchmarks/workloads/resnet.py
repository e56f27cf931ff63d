"""The residual network of 20 layers for small images (He et al. 2016, section 4.2), with projections as shortcuts."""

from __future__ import annotations

from benchmarks.layers import BatchNorm, Chain, Conv, Layer, Linear, MeanPool, Relu, Residual, chain
from benchmarks.workload import SGD, Goal, Input, Task, Workload

ORDER = 11


def _block(inputs: int, outputs: int, stride: int) -> tuple[Layer, Layer]:
    first, second = Conv(inputs, outputs, 3, stride, 1, bias=False), Conv(outputs, outputs, 3, 1, 1, bias=False)
    body = chain(first, BatchNorm(outputs, images=True), Relu(), second, BatchNorm(outputs, images=True))
    same = inputs == outputs and stride == 1
    shortcut = None if same else chain(Conv(inputs, outputs, 1, stride, bias=False), BatchNorm(outputs, images=True))
    return Residual(body, shortcut), Relu()


def resnet(batch: int, image: int, width: int, blocks: int, classes: int) -> Task:
    layers: list[Layer] = [Conv(3, width, 3, 1, 1, bias=False), BatchNorm(width, images=True), Relu()]
    inputs = width
    for outputs, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
        for i in range(blocks):
            layers += _block(inputs, outputs, stride if i == 0 else 1)
            inputs = outputs
    net = Chain((*layers, MeanPool(), Linear(inputs, classes)))
    return Task(net, (Input((batch, 3, image, image)),), "cross_entropy", Input((batch,), high=classes), SGD(0.01, 0.9))


TITLE = "ResNet, {blocks} blocks a stage, {width} channels, {image} x {image}, batch {batch}"
SIZES = {"batch": 32, "image": 32, "width": 16, "blocks": 3, "classes": 10}
TINY = {"batch": 4, "image": 8, "width": 4, "blocks": 1, "classes": 3}
WORKLOADS = [
    Workload(
        "resnet", ("conv",), TITLE, resnet, SIZES, {"forward": Goal(), "train": Goal(0.85)}, TINY,
        limit="flops", fixed=frozenset({"classes"}),
    )
]  # fmt: skip

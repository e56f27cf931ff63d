"""ONNX Runtime on a model made node by node, inputs and outputs bound once; fused and plain operators are tried."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers import NotAvailable, Prepared, fastest
from benchmarks.workload import Task

try:
    import onnxruntime as ort

    from benchmarks.peers.onnx_layers import model
except ImportError as error:
    raise NotAvailable("ONNX Runtime is not installed: pip install 'graphc-dl[bench]'") from error


def versions() -> dict[str, str]:
    return {"onnxruntime": ort.__version__}


def session(task: Task, fused: bool, threads: int) -> Any:
    """A call that fills the bound output."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    running = ort.InferenceSession(model(task, fused), options, providers=["CPUExecutionProvider"])
    binding = running.io_binding()
    # neither keeps a binding alive what is bound, nor an OrtValue the array whose memory it is
    arrays = [*task.values(), np.empty(task.output_shape(), np.float32)]
    *held, out = [ort.OrtValue.ortvalue_from_numpy(x) for x in arrays]
    for i, x in enumerate(held):
        binding.bind_ortvalue_input(f"x{i}", x)
    binding.bind_ortvalue_output("y", out)

    def call(_held: Any = (held, arrays)) -> Any:
        running.run_with_iobinding(binding)
        return out

    return call


def prepare(task: Task, case: str, threads: int) -> Prepared:
    tried = {"fused operators": session(task, True, threads), "plain operators": session(task, False, threads)}
    setting, call = fastest(tried.items())
    return Prepared(call, lambda: [call().numpy()], f"{setting}, bound buffers")

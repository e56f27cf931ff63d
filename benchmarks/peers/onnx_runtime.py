"""ONNX Runtime on a model made with onnx.helper, inputs and outputs bound once."""

from __future__ import annotations

import numpy as np

from benchmarks.peers import NotAvailable, Prepared, fastest
from benchmarks.workloads import MLP

try:
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise NotAvailable("ONNX Runtime is not installed: pip install 'graphc-dl[bench]'") from error


def versions() -> dict[str, str]:
    return {"onnxruntime": ort.__version__}


def model(workload: MLP, gemm: bool) -> bytes:
    nodes, tensors, value = [], [], "x"
    weights = workload.weights()
    for i, (w, b) in enumerate(weights):
        tensors += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        out = "y" if i == len(weights) - 1 else f"z{i}"
        if gemm:
            nodes.append(helper.make_node("Gemm", [value, f"w{i}", f"b{i}"], [out]))
        else:
            nodes.append(helper.make_node("MatMul", [value, f"w{i}"], [f"p{i}"]))
            nodes.append(helper.make_node("Add", [f"p{i}", f"b{i}"], [out]))
        value = out
        if out != "y":
            nodes.append(helper.make_node("Relu", [out], [f"h{i}"]))
            value = f"h{i}"

    def info(name: str, width: int):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [workload.batch, width])

    graph = helper.make_graph(nodes, "mlp", [info("x", workload.dims[0])], [info("y", workload.dims[-1])], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def prepare(workload: MLP, case: str, threads: int) -> Prepared:
    x, _ = workload.data()

    def session(gemm: bool):
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        running = ort.InferenceSession(model(workload, gemm), options, providers=["CPUExecutionProvider"])
        binding = running.io_binding()
        binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(x))
        out = ort.OrtValue.ortvalue_from_numpy(np.empty((workload.batch, workload.dims[-1]), np.float32))
        binding.bind_ortvalue_output("y", out)

        def call():
            running.run_with_iobinding(binding)
            return out

        return call

    setting, call = fastest((("Gemm", session(True)), ("MatMul + Add", session(False))))
    return Prepared(call, lambda: [float(np.abs(call().numpy()).sum())], f"{setting}, bound buffers")

"""Every worked example of the course notes (a row) and every wrong formula in them (a line) has a test that names it.

``test_row_27_...`` and ``test_lines_5689_5696_...`` are such names; the tables below say what graphc does there.
``python -m tests.ops.test_worked_coverage docs/notes.md`` writes the page.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "notes.md"

ROWS = {
    1: "softmax of (1.2, 0.3) is (0.711, 0.289)",
    2: "log 1 = 0, log 0.01 = -4.605",
    3: "-log p for p = 0.9, 0.25, 0.1, 0.01",
    4: "with a one-hot label only the true class's term counts",
    5: "a step of gradient descent on (x² + y²) / 2 multiplies the point by 1 - η",
    6: "the gradient of a network with one layer of sigmoids, by hand",
    7: "softmax and cross entropy together: f - y",
    8: "the Jacobian of softmax: diag(o) - o oᵀ",
    9: "600,000 samples are 6,000 batches of 100",
    10: "4 hidden units of 3 inputs: b_i + Σ_j w_ij x_j",
    11: "10 samples of 5 units are a 10 × 5 matrix",
    12: "a convolution flips its kernel",
    13: "a cross-correlation does not, and gives something else",
    14: "a diagonal detector: 127.5, not 128",
    15: "channels are summed",
    16: "2×2 pooling with stride 2 halves a 4×4 image",
    17: "784 = 28 · 28; 10⁶ inputs and 10³ units are 10⁹ weights",
    18: "a 1×1 convolution mixes channels only",
    19: "Inception: 32 + 64 + 128 channels are 224",
    20: "a bottleneck has 69,632 weights where a 3×3 convolution has 589,824",
    21: "ResNet-18 has 18 layers",
    22: "global average pooling of 7×7×512 gives 512 numbers, flattening 25,088",
    23: "Huber's loss is continuous at x = ±δ",
    24: "d_h = 4, d_x = 3: one 4×7 matrix; 32, 96 and 128 parameters of an RNN, a GRU, an LSTM",
    25: "d_h = 3, d_x = 3: [h, x] has 6 entries",
    26: "h₃ = A(A(A(h₀, x₁), x₂), x₃)",
    27: "a bag of words is the sum of one-hot vectors",
    28: "TF-IDF: count · ln(n / df)",
    29: "skip-gram pairs with window 2",
    30: "P(context of a word) is a product of four probabilities",
    31: "skip-gram: one-hot V, hidden N, V scores",
    32: "king - man + woman is nearest to queen by cosine",
    33: "a bag of words knows no order",
    34: "the states of a bidirectional RNN are n × 2h",
    35: "character model: “machin” in, “achine” out",
    36: "dilations 1, 2, 4 with kernels of 2 see 8 steps",
    37: "AUC: 1 for a perfect order, 0.5 for none",
    38: "F₁ = 0.6, F₂ = 0.566 for TP = 6, FP = 3, FN = 5",
    39: "macro precision 0.5417, micro precision 0.6",
    40: "saturated units pass no gradient, and products of derivatives vanish",
    41: "IoU of boxes, and suppression of boxes that overlap a better one",
    42: "anchors match over IoU 0.5; at most 3 hard negatives for each positive",
    43: "the derivative of ReLU at -1, 0, 2 is 0, 0, 1",
    44: "stems (develop) and lemmas (drive), from a library",
    45: "20 tokens of a dictionary of 16: one-hot 20×16, embedded 20×5",
    46: "a masked word is told from both sides: very or so, but not “not”",
}

LINES = {
    "813": "cross entropy is -Σ y log f",
    "1163": "σ(a) (1 - σ(a)) x_j: the input stands outside of the bracket",
    "1079": "a chain that ends in ∂a/∂w is ∂L/∂w",
    "1067, 1075": "one bias for each unit of layer 1: b_i^[1]",
    "1004": "∂L/∂h is the total derivative, through all units of the next layer",
    "1471": "-y / f is the derivative of the loss by f, not the loss",
    "1768": "f - y is the derivative by the logits, not by f",
    "1755, 1763": "the derivative of softmax is a matrix",
    "1774, 1787, 1824": "the gradient of a weight is the outer product δ hᵀ",
    "1810, 1842": "(Wᵀ δ) is multiplied by g'(a) element by element",
    "1836, 1840, 1866-1869": "δ has an entry for each unit, (1, h) one more than the layer before has units",
    "1696, 1706": "the constant 1 is not passed through the activation",
    "1882, 1880": "a gradient has the shape of its matrix, H × (d+1)",
    "1890, 1896, 1919, 1988": "an update subtracts η times the gradient",
    "2084": "accuracy is correct / all",
    "2113": "F_β has β² FN in the denominator",
    "2166": "macro precision is the mean of the classes' precisions",
    "2172": "micro precision is Σ TP / Σ (TP + FP)",
    "2178": "macro F is the mean of the classes' F",
    "2353, 2357": "a skip connection is the identity or has its own projection",
    "2451, 2540, 2558": "convolution reads k[r-1-p, r-1-q]",
    "2638": "127.5, not rounded",
    "2861": "LeNet's first layer: 6 kernels of 5×5, padding 2, give 6×28×28",
    "3508-3512": "every stage of ResNet-18 has two blocks",
    "4521": "the cell is applied once for each step",
    "4610": "h_t has d_h entries",
    "4694": "H_t is n × h",
    "4770": "∂L/∂h_t = Σ_{i≥t} (W_hhᵀ)^(i-t) W_qhᵀ ∂L/∂o_i, for a linear cell",
    "5181": "h_j = x_{j-1} w_{-1} + x_j w_0 + x_{j+1} w_1",
    "5654": "ids run from 0 to the size of the vocabulary less 1",
    "5689, 5696": "offsets are -2, -1, 1, 2, and end with the sentence",
    "5696": "the minus stands before the whole bracket: -(u·v - log Σ exp)",
    "5698": "the loss of a text is a sum of logarithms",
    "5748, 5765": "h = Wᵀ x, a row of W",
    "5749, 5774": "z = W'ᵀ h",
    "5806-5808": "the loss is -log P",
    "5846": "the gradient of the loss has the opposite sign of log P's",
    "5903": "u_o - Σ P u_j is a gradient, not the objective",
    "5895": "v_c moves towards u_o and away from the expected u",
    "5921": "negative sampling has a term for the noise",
    "6088": "two directions are joined, not added",
    "6135": "the mean is over samples, not classes",
}


def named(test: str) -> set[tuple[str, int]]:
    """The rows and lines at the start of a test's name."""
    kind, found = "", set()
    for part in test.split("_")[1:]:
        if part.rstrip("s") in ("row", "line"):
            kind = part.rstrip("s")
        elif part.isdigit() and kind:
            found.add((kind, int(part)))
        elif part not in ("and", "to"):
            break
    return found


@functools.cache
def collected() -> dict[tuple[str, int], list[str]]:
    """The tests, as ``file::name``, of each row and line."""
    tests: dict[tuple[str, int], list[str]] = {}
    for path in sorted(HERE.glob("test_worked_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for key in named(node.name):
                    tests.setdefault(key, []).append(f"{path.name}::{node.name}")
    return tests


def numbers(key: str) -> list[tuple[str, int]]:
    return [("line", int(n)) for n in re.findall(r"\d+", key)]


def page() -> str:
    tests = collected()

    def line(key, what, keys):
        found = dict.fromkeys(t for k in keys for t in tests.get(k, ()))
        return f"| {key} | {what} | {'<br>'.join(f'`{t}`' for t in found)} |"

    return "\n".join(
        [
            "# The course notes",
            "",
            "Made by `python -m tests.ops.test_worked_coverage docs/notes.md`. Tests are in `tests/ops/`.",
            "",
            "## Worked examples",
            "",
            "| row | what graphc does | tests |",
            "|---|---|---|",
            *(line(n, what, [("row", n)]) for n, what in ROWS.items()),
            "",
            "## Wrong formulas",
            "",
            "Where the notes print a wrong formula, named by its line, graphc has the right one.",
            "",
            "| line | what graphc does | tests |",
            "|---|---|---|",
            *(line(key, what, numbers(key)) for key, what in LINES.items()),
            "",
        ]
    )


def test_names_tell_rows_and_lines():
    assert named("test_row_14_and_line_2638_a_diagonal_of_3") == {("row", 14), ("line", 2638)}
    assert named("test_rows_24_25_and_line_4610_one_matrix") == {("row", 24), ("row", 25), ("line", 4610)}
    assert named("test_a_row_27") == set()


@pytest.mark.parametrize("row", range(1, 47))
def test_each_row_has_a_test(row):
    assert ROWS[row] and collected().get(("row", row)), f"name a test in tests/ops/test_worked_*.py test_row_{row}_..."


@pytest.mark.parametrize("key", LINES)
def test_each_wrong_formula_has_a_test(key):
    missing = [n for kind, n in numbers(key) if (kind, n) not in collected()]
    assert not missing, f"name tests in tests/ops/test_worked_*.py test_line_{missing[0]}_..."


def test_the_committed_page_is_up_to_date():
    assert page() == PAGE.read_text(encoding="utf-8"), "run: python -m tests.ops.test_worked_coverage docs/notes.md"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")

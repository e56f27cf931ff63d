"""The first run on a GPU, rehearsed on a made-up one: every part's code, the budget of time, and parts that fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu_first_run as first
from benchmarks.gpu_first_run import GRAPHC, Runner, Unit, aims, as_markdown, differences, in_child, limited, plan, settle
from benchmarks.gpu_sections import MODELS, OURS, PEERS
from tests.packaging.folders import ROOT

FAST = ("smoke", "copy", "launch", "gemm", "mlp", "numeric", "optimiser")
LONG = ("resnet", "lstm", "transformer", "rows")


def rehearse(folder: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], dict, str]:
    command = [sys.executable, "-m", "benchmarks.gpu_first_run", "--dry-run", "--out", str(folder / "report"), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done, json.loads((folder / "report.json").read_text()), (folder / "report.md").read_text()


@pytest.mark.parametrize("section", ["all the short ones", *LONG])
def test_every_part_runs(section, tmp_path):
    done, data, text = rehearse(tmp_path, "--only", section if section in LONG else ",".join(FAST))
    assert done.returncode == 0, done.stdout + done.stderr
    for part in data["parts"]:
        missing = part["state"] == "skipped" and "No module named" in part["note"]
        assert part["state"] == "done" or missing, part
        assert part["records"] or missing, part
        assert f"## {part['section']}, {part['who']}" in text
    assert not data["differences"] and "made up: nothing here is a measurement" in text and "**missed**" not in text
    sides = {p["who"] for p in data["parts"] if p["section"] == section}
    assert section not in MODELS or sides >= {GRAPHC, "torch eager", "torch.compile", "JAX"}


def test_the_plan_has_every_section_and_side_with_the_important_ones_first():
    units = plan()
    assert {(u.section, u.who) for u in units if u.section != "numeric"} == {(s, GRAPHC) for s in OURS} | set(PEERS)
    assert [u.section for u in units[:3]] == ["smoke", "copy", "launch"] and "numeric" in {u.section for u in units[:9]}
    ours = [i for i, u in enumerate(units) if u.who == GRAPHC and u.precision == "tf32"]
    assert max(ours) < min(i for i, u in enumerate(units) if u.who in ("torch.compile", "JAX"))


def scripted(monkeypatch, *codes: str) -> list[Unit]:
    """Parts that are small programs."""
    monkeypatch.setattr(first, "command", lambda unit, out, tiny: [sys.executable, "-c", f"out = {str(out)!r}\n{unit.section}"])
    return [Unit(code, limit=20) for code in codes]


GOOD = "open(out, 'a').write('{\"what\": \"x\", \"seconds\": 0.5}\\n')"


def test_a_part_that_fails_is_written_down_and_the_rest_goes_on(monkeypatch, tmp_path):
    crash = GOOD + "\nopen(out, 'a').write('{\"what\": ')\nimport os; print('last words'); os.abort()"
    units = scripted(monkeypatch, GOOD, crash, "raise ValueError('this one')", GOOD)
    reports = []
    Runner(units, 60, tmp_path, say=lambda text: None).run(lambda: reports.append([u.state for u in units]))
    assert [u.state for u in units] == ["done", "failed", "failed", "done"] and len(reports) == 5 and reports[0][0] == "done"
    assert len(units[1].records) == 1 and "status -6" in units[1].note and "last words" in units[1].note
    assert "ValueError: this one" in units[2].note
    text = as_markdown(units, {"gpu": "one"}, 1.0)
    assert text.count("failed") == 2 and "ValueError: this one" in text


def test_a_part_that_hangs_is_ended_with_all_that_it_started():
    code = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print(p.pid, flush=True); time.sleep(60)"
    began = time.monotonic()
    status, told = limited([sys.executable, "-c", code], 2)
    assert status is None and time.monotonic() - began < 20
    for _ in range(100):
        if not alive(int(told)):
            break
        time.sleep(0.05)
    assert not alive(int(told))
    assert "ended after 1 s, which is all" in in_child([sys.executable, "-c", "import time; time.sleep(60)"], 1)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_there_is_no_time_for_is_named(monkeypatch, tmp_path):
    units = scripted(monkeypatch, GOOD, "import time; time.sleep(3)", GOOD, GOOD)
    monkeypatch.setattr(first, "RESERVE", 0.0)
    began = time.monotonic()
    Runner(units, 12, tmp_path, say=lambda text: None).run(lambda: None)
    assert time.monotonic() - began < 12
    assert [u.state for u in units] == ["done", "done", "not run", "not run"] and units[3].note == "the time was out"


def test_a_part_says_why_it_is_skipped_or_what_failed(tmp_path, monkeypatch):
    def missing(context):
        raise ImportError("No module named 'torch'")

    def broken(context):
        context.emit(what="one", seconds=1.0)
        raise RuntimeError("an illegal address")

    monkeypatch.setitem(OURS, "smoke", missing)
    monkeypatch.setitem(OURS, "copy", broken)
    states = {}
    for name in ("smoke", "copy"):
        unit = Unit(name)
        problem = "" if first.part_main(unit, True, False, tmp_path / name) == 0 else "ended"
        settle(unit, tmp_path / name, problem)
        states[name] = unit
    assert states["smoke"].state == "skipped" and states["smoke"].note == "No module named 'torch'"
    assert states["copy"].state == "failed" and "RuntimeError: an illegal address" in states["copy"].note and len(states["copy"].records) == 1


def test_figures_are_put_beside_the_aims():
    def unit(section, who, *records, precision="tf32"):
        return Unit(section, who, precision, state="done", records=[{"what": w, "seconds": s, **more} for w, s, more in records])

    units = [
        unit("copy", GRAPHC, ("x * 2", 1.0, {"bytes": 3000e9, "limit": "copy"})),
        unit("mlp", GRAPHC, ("step", 60e-6, {"losses": [2.0, 1.5, 1.0]}), ("starting its captured graphs, host", 9e-6, {})),
        unit("mlp", "torch eager", ("step", 400e-6, {"losses": [2.0, 1.5, 1.001]})),
        unit("mlp", "torch.compile", ("step", 80e-6, {"losses": [2.0, 1.5, 1.3]})),
        unit("lstm", GRAPHC, ("step", 4e-3, {})),
        unit("lstm", "JAX", ("step", 10e-3, {})),
        unit("lstm", "cuDNN, both layers", ("step", 2e-3, {})),
        unit("rows", GRAPHC, ("softmax", 1.0, {"bytes": 2700e9, "limit": "memory"}), ("norm", 1.0, {"bytes": 2400e9, "limit": "memory"})),
    ]
    found = {a.split()[0]: (f, m) for a, f, m in aims(units)}
    assert found["MLP"] == ("0.75 of torch.compile (80 us)", True)
    assert found["memory-bound"] == ("80% (norm, the lowest of 2)", False)
    assert found["starting"] == ("9 us", True) and found["ResNet-20"] == ("not measured", None)
    assert found["LSTM"] == ("2.00 of cuDNN, both layers (2 ms)", False)
    (line,) = differences(units)
    assert "torch.compile and graphc differ" in line
    text = as_markdown(units, {"gpu": "one"}, 1.0)
    assert "| met |" in text and "**missed**" in text and "not measured" in text and line in text and "2700 GB/s, 90% of a copy" in text


def test_a_wrong_result_is_no_success(tmp_path):
    (tmp_path / "out").write_text('{"what": "x @ w", "error": 0.5, "most": 1e-5}\n')
    unit = Unit("gemm")
    settle(unit, tmp_path / "out", "")
    assert unit.state == "wrong" and "x @ w: error 5.00e-01" in unit.note


def test_without_a_gpu_it_says_why(tmp_path):
    import graphc as gc

    if gc.cuda.is_available():
        pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu_first_run", "--out", str(tmp_path / "r")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "no GPU can be used: " in done.stderr and not list(tmp_path.iterdir())
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu_first_run", "--only", "cofy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "there is no section cofy: smoke, copy" in done.stderr


def test_kernels_of_the_whole_run_compile_ahead(tmp_path):
    from graphc.backends.cuda.toolchain import toolchain_missing

    if toolchain_missing():
        pytest.skip(f"{toolchain_missing()} is not installed: pip install 'graphc-dl[cuda13]'")
    command = [sys.executable, "-m", "benchmarks.gpu_first_run", "--dry-run", "--compile", str(tmp_path), "--arch", "sm_90a", "--only", "smoke,copy,launch,mlp"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.rglob("*.cubin"))) > 20 and (tmp_path / "cuda/sm_90a/index.json").exists()


def test_kernels_of_later_parts_compile_meanwhile(tmp_path, monkeypatch):
    from graphc.backends.cuda.toolchain import toolchain_missing

    if toolchain_missing():
        pytest.skip(f"{toolchain_missing()} is not installed: pip install 'graphc-dl[cuda13]'")
    monkeypatch.setenv("GRAPHC_CACHE", str(tmp_path / "kernels"))
    runner = Runner([Unit("launch"), Unit("optimiser"), Unit("mlp")], 60, tmp_path, say=lambda text: None)
    runner.compile_beside("sm_80", 1)
    ((what, process),) = runner.ahead.items()
    assert what == ("optimiser", "float32") and process.wait(120) == 0
    assert (tmp_path / "ahead-optimiser-float32.jsonl").read_text() == ""  # it measured nothing, and nothing failed
    assert list((tmp_path / "kernels/cuda/sm_80").rglob("*.cubin"))

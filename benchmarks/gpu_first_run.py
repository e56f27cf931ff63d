"""``python -m benchmarks.gpu_first_run``: everything that is to be known of a GPU in one command of nine minutes at most.

The numeric suite, what memory and launches cost, products, row kernels, the optimiser and training steps, beside torch eager, torch.compile
(reduce-overhead) and JAX where they have CUDA. Each part runs in a process of its own, the most important first: one that fails, hangs or ends the
process is written down, and the rest goes on. What there is no time for is named. The report (Markdown and JSON) is written anew after every part.

``--dry-run`` runs every part here at tiny sizes, on a made-up GPU; its times mean nothing. ``--compile FOLDER --arch sm_90a`` compiles all kernels
on a machine without a GPU; on the one with it, GRAPHC_CACHE names the folder, and no compiler is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.gpu_sections import MODELS, OURS, PEERS, Context
from benchmarks.runner import duration

ROOT = Path(__file__).resolve().parent.parent
GRAPHC = "graphc"
PACKAGES = ("graphc-dl", "numba", "numba-cuda", "cuda-core", "cuda-bindings", "nvidia-nvvm", "nvidia-nvjitlink", "numpy", "torch", "jax", "cupy-cuda13x")
MADE_UP = "made up: nothing here is a measurement"
TESTS = "tests/cuda/test_gpu.py"
RESERVE = 5.0
"""Seconds of the budget that are kept for the report."""


@dataclass
class Unit:
    """One part: a section, who is measured, in which precision of products, and the most seconds it may take."""

    section: str
    who: str = GRAPHC
    precision: str = "float32"
    limit: float = 60.0
    state: str = "not run"
    note: str = ""
    took: float = 0.0
    records: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.section}, {self.who}" + (f", {self.precision}" if self.section in MODELS else "")


def plan() -> list[Unit]:
    """All parts, the most important first."""
    units = [Unit("smoke", limit=90), Unit("copy"), Unit("launch")]
    units += [Unit("mlp", GRAPHC, "tf32"), Unit("mlp", "torch eager", "tf32", 45), Unit("gemm"), Unit("gemm", "torch eager", limit=45)]
    units += [Unit("numeric", limit=150)]
    units += [Unit(name, who, "tf32", 75) for name in ("resnet", "lstm", "transformer") for who in (GRAPHC, "torch eager")]
    units += [Unit("lstm", "cuDNN, both layers", "tf32", 40), Unit("rows"), Unit("rows", "torch eager", limit=45), Unit("optimiser"), Unit("optimiser", "torch eager", limit=40)]
    units += [Unit(name, "torch.compile", "tf32", 100) for name in MODELS] + [Unit(name, "JAX", "tf32", 75) for name in MODELS]
    units += [Unit(name, who, "float32", 75) for name in MODELS for who in (GRAPHC, "torch eager")]
    return [*units, Unit("rows", "torch.compile", limit=90)]


# -- in the process of a part ------------------------------------------------------------------------------------------------
def run_here(unit: Unit, tiny: bool, ahead: bool, emit: Callable[..., None]) -> None:
    context = Context(emit, tiny, unit.precision, ahead)
    (OURS[unit.section] if unit.who == GRAPHC else PEERS[unit.section, unit.who])(context)


@contextmanager
def made_up_gpu() -> Iterator[None]:
    """A GPU of NumPy memory and simulated kernels, for dry runs."""
    from graphc.backends.cuda import gpu
    from tests.cuda.fake_gpu import fake_gpu

    made, real = fake_gpu(), gpu.open_gpu
    gpu.open_gpu = lambda index=0: made
    try:
        yield
    finally:
        gpu.open_gpu = real


def part_main(unit: Unit, tiny: bool, ahead: bool, out: Path) -> int:
    """A part in this process: a line of JSON for each result, and for what went wrong."""
    with out.open("a") as file:

        def emit(**record: Any) -> None:
            print(json.dumps(record), file=file, flush=True)

        try:
            with made_up_gpu() if tiny else nullcontext():
                run_here(unit, tiny, ahead, emit)
        except ImportError as e:
            emit(skipped=str(e))
        except BaseException:
            emit(failed=traceback.format_exc())
            return 1
    return 0


# -- the parent --------------------------------------------------------------------------------------------------------------
class Runner:
    """Runs parts one after another until the time is out; ``report`` is called after each."""

    def __init__(self, units: list[Unit], seconds: float, folder: Path, tiny: bool = False, here: bool = False, say: Callable[[str], None] = print):
        self.units, self.folder, self.tiny, self.here, self.say = units, folder, tiny, here, say
        self.end = time.monotonic() + seconds
        self.ahead: dict[tuple[str, str], subprocess.Popen[bytes]] = {}

    def left(self) -> float:
        return self.end - time.monotonic() - RESERVE

    def run(self, report: Callable[[], None]) -> None:
        try:
            for number, unit in enumerate(self.units):
                if self.left() < (0 if self.tiny else 10):
                    unit.note = "the time was out"
                    continue
                began = time.monotonic()
                self.say(f"{unit.name} ...")
                try:
                    self._one(unit, number)
                except Exception:  # of this command's own
                    unit.state, unit.note = "failed", traceback.format_exc()
                unit.took = time.monotonic() - began
                self.say(f"    {unit.state} after {unit.took:.1f} s{': ' + unit.note.strip().splitlines()[-1] if unit.note else ''}")
                report()
        finally:
            for process in self.ahead.values():
                process.kill()
        report()

    def _one(self, unit: Unit, number: int) -> None:
        limit = min(unit.limit, self.left())
        if unit.section == "numeric":
            numeric(unit, limit, self.tiny)
            return
        out = self.folder / f"part{number}.jsonl"
        if self.here:
            problem = "" if part_main(unit, self.tiny, False, out) == 0 else "ended"
        else:
            waited = self.ahead.get((unit.section, unit.precision)) if unit.who == GRAPHC else None
            if waited is not None:  # the same kernels need not be compiled twice
                began = time.monotonic()
                with suppress(subprocess.TimeoutExpired):
                    waited.wait(limit / 2)
                limit = min(limit, self.left())
                self.say(f"    waited {time.monotonic() - began:.1f} s for its kernels")
            problem = in_child(command(unit, out, self.tiny), limit)
        settle(unit, out, problem)

    def compile_beside(self, arch: str, most: int) -> None:
        """Compiles the kernels of later parts while earlier ones are measured: processes that take no GPU."""
        env = {**os.environ, "GRAPHC_WARM": "1", "GRAPHC_WARM_ARCH": arch}
        wanted = dict.fromkeys((u.section, u.precision) for u in self.units if u.who == GRAPHC and u.section in {*MODELS, "rows", "optimiser", "gemm"})
        for section, precision in list(wanted)[:most]:
            unit = Unit(section, GRAPHC, precision)
            asked = [*command(unit, self.folder / f"ahead-{section}-{precision}.jsonl", False), "--ahead"]
            self.ahead[section, precision] = subprocess.Popen(asked, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def command(unit: Unit, out: Path, tiny: bool) -> list[str]:
    asked = [sys.executable, "-m", "benchmarks.gpu_first_run", "--part", unit.section, "--who", unit.who, "--precision", unit.precision, "--part-out", str(out)]
    return [*asked, "--dry-run"] if tiny else asked


def limited(asked: Sequence[str], limit: float, env: dict[str, str] | None = None) -> tuple[int | None, str]:
    """Runs a command: its status, None where it took longer, and what it told. What it started ends with it."""
    with tempfile.TemporaryFile("w+") as told:  # a pipe would stay open as long as anything that it started
        process = subprocess.Popen(list(asked), cwd=ROOT, env=env, stdout=told, stderr=subprocess.STDOUT, start_new_session=True)
        status: int | None = None
        try:
            status = process.wait(max(limit, 1))
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        told.seek(0)
        return status, told.read()


def in_child(asked: Sequence[str], limit: float) -> str:
    """Runs the command of a part; what went wrong with the process, or nothing."""
    status, told = limited(asked, limit)
    if status is None:
        return f"ended after {limit:.0f} s, which is all that it may take\n{told[-2000:]}"
    return "" if status == 0 else f"the process ended with status {status}\n{told[-2000:]}"


def settle(unit: Unit, out: Path, problem: str) -> None:
    """What a part left in its file, and how it ended."""
    lines = out.read_text().splitlines() if out.exists() else []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:  # the process ended within the line
            continue
    unit.records = [r for r in found if "what" in r]
    failed, skipped = ([r[k] for r in found if k in r] for k in ("failed", "skipped"))
    wrong = [f"{r['what']}: error {r['error']:.2e}, at most {r['most']:.0e}" for r in unit.records if "error" in r and not r["error"] <= r["most"]]
    if failed or problem:
        unit.state, unit.note = "failed", "\n".join([*failed, problem]).strip()
    elif skipped:
        unit.state, unit.note = "skipped", skipped[0]
    else:
        unit.state, unit.note = ("wrong", "; ".join(wrong)) if wrong else ("done", "")


def numeric(unit: Unit, limit: float, tiny: bool) -> None:
    """The tests marked gpu, by several processes where there is pytest-xdist."""
    asked = [sys.executable, "-m", "pytest", TESTS, "-q", "-o", "addopts=", "--import-mode=importlib", "-p", "no:cacheprovider", "-rfE", "--tb=short"]
    env = dict(os.environ)
    if tiny:
        asked += ["-k", "adds or named_sizes or bits_of_single"]
        env["GRAPHC_TEST_MADE_UP_GPU"] = "1"
    elif installed("pytest-xdist"):
        asked += ["-n", str(min(12, os.cpu_count() or 1)), "--dist", "load"]
    if not installed("pytest"):
        unit.state, unit.note = "skipped", "pytest is not installed"
        return
    status, told = limited(asked, limit, env)
    over = f"ended after {limit:.0f} s; " if status is None else ""
    last = next((line for line in reversed(told.splitlines()) if re.search(r"\d+ (passed|failed|skipped|error)", line)), "no count")
    # a run that was cut short has no last line: its dots are counted
    dots = "".join(line.split(" [")[0] for line in told.splitlines() if re.fullmatch(r"[.FsEx]+( +\[ *\d+%\])?", line))
    counted = {name: int(n) for n, name in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    if over:
        counted = {"passed": dots.count("."), "failed": dots.count("F") + dots.count("E"), "skipped": dots.count("s")}
    unit.records = [{"what": "tests", **counted}]
    bad = [line for line in told.splitlines() if line.startswith(("FAILED", "ERROR"))]
    whole = status == 0
    unit.state = "done" if whole else "failed" if bad or not over else "cut short"
    unit.note = "" if whole else over + ("\n".join(bad[:40]) + "\n\n" + told[-6000:] if bad or not over else "as far as it came, all passed")


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


# -- report ------------------------------------------------------------------------------------------------------------------
def machine(tiny: bool) -> dict[str, str]:
    import graphc as gc

    facts = {"gpu": MADE_UP if tiny else gc.cuda.summary(), "system": platform.platform(), "python": platform.python_version()}
    facts["cpus"] = str(os.cpu_count())
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit,memory.used", "--format=csv,noheader"]
    try:
        facts["nvidia-smi"] = subprocess.run(asked, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError) as e:
        facts["nvidia-smi"] = f"{type(e).__name__}"
    facts["packages"] = ", ".join(f"{p} {v}" for p in PACKAGES if (v := installed(p)))
    return facts


def seconds_of(units: Iterable[Unit], section: str, what: str) -> dict[str, float]:
    """The best time of each side for one thing."""
    found: dict[str, float] = {}
    for u in units:
        for r in u.records:
            if u.section == section and r["what"] == what and r.get("seconds"):
                found[u.who] = min(found.get(u.who, float("inf")), r["seconds"])
    return found


def bandwidth(units: Iterable[Unit]) -> float:
    """Bytes a second of the best copy; 0 where none was measured."""
    return max((r["bytes"] / r["seconds"] for u in units for r in u.records if r.get("limit") == "copy"), default=0.0)


def aims(units: list[Unit]) -> list[tuple[str, str, bool | None]]:
    """What is aimed at on an H200, the figure, and whether it is met (None: not measured)."""
    out: list[tuple[str, str, bool | None]] = []

    def ratio(section: str, most: float, said: str, among: Sequence[str] = ()) -> None:
        found = seconds_of(units, section, "step")
        others = {k: v for k, v in found.items() if k != GRAPHC and (not among or k in among)}
        text, met = "not measured", None
        if GRAPHC in found and others:
            peer = min(others, key=others.__getitem__)
            text, met = f"{found[GRAPHC] / others[peer]:.2f} of {peer} ({duration(others[peer])})", found[GRAPHC] <= most * others[peer]
        out.append((said, text, met))

    ratio("mlp", 0.8, "MLP step <= 0.8 of the best peer")
    best = bandwidth(units)
    shares = {
        r["what"]: r["bytes"] / r["seconds"] / best for u in units if u.who == GRAPHC for r in u.records if r.get("limit") == "memory" and best and r["seconds"]
    }
    low = min(shares, key=shares.__getitem__, default="")
    out.append(("memory-bound kernels >= 85 % of a copy", f"{shares[low]:.0%} ({low}, the lowest of {len(shares)})" if low else "not measured", shares[low] >= 0.85 if low else None))
    start = seconds_of(units, "mlp", "starting its captured graphs, host").get(GRAPHC)
    out.append(("starting a captured step <= 10 us", "not measured" if start is None else duration(start), None if start is None else start <= 10e-6))
    ratio("resnet", 1.0, "ResNet-20 step <= 1.0 of the best peer")
    ratio("lstm", 1.5, "LSTM step <= 1.5 of cuDNN", ("torch eager", "cuDNN, both layers"))
    return out


def differences(units: list[Unit]) -> list[str]:
    """Sides that do not compute the same: losses of three steps, and digests of results."""
    out = []
    first: dict[tuple[str, str, str], tuple[str, Any]] = {}
    for u in units:
        for r in u.records:
            for kind, most in (("losses", 2e-2 if u.precision != "float32" else 1e-3), ("digest", 1e-2)):
                if kind not in r:
                    continue
                flat = [v for row in r[kind] for v in (row if isinstance(row, list) else [row])]
                who, known = first.setdefault((u.section, u.precision, r["what"]), (u.who, flat))
                scale = max(map(abs, known), default=0.0)
                if len(flat) != len(known) or any(not abs(a - b) <= most * max(scale, 1e-12) for a, b in zip(flat, known)):
                    out.append(f"{u.section}, {r['what']}, {u.precision}: {u.who} and {who} differ ({flat[:3]} and {known[:3]})")
    return out


def line_of(record: dict[str, Any], best: float) -> str:
    """One result as cells of a table."""
    seconds = record.get("seconds")
    rate = ""
    if seconds and record.get("flops"):
        rate = f"{record['flops'] / seconds / 1e12:.3g} TFLOP/s"
    elif seconds and record.get("bytes"):
        rate = f"{record['bytes'] / seconds / 1e9:.4g} GB/s" + (f", {record['bytes'] / seconds / best:.0%} of a copy" if best and record.get("limit") == "memory" else "")
    elif "error" in record:
        rate = f"relative error {record['error']:.1e} (at most {record['most']:.0e})"
    elif "passed" in record or "failed" in record:
        rate = ", ".join(f"{record[k]} {k}" for k in ("passed", "failed", "skipped", "error") if k in record)
    return f"{record['what']} | {'' if seconds is None else duration(seconds)} | {rate} | {record.get('note', '')}"


def as_markdown(units: list[Unit], facts: dict[str, str], took: float) -> str:
    judged = {None: "not measured", True: "met", False: "**missed**"}
    if facts["gpu"] == MADE_UP:
        judged = dict.fromkeys(judged, "not measured")
    best = bandwidth(units)
    lines = ["# First run on a GPU", "", *(f"- {k}: {v}" for k, v in facts.items()), f"- {took:.0f} s in all", "", "## Aims (on an H200)", ""]
    lines += ["| aim | figure | |", "|---|---|---|", *(f"| {a} | {f} | {judged[m]} |" for a, f, m in aims(units))]
    different = differences(units)
    lines += ["", "All sides compute the same, as far as they were compared." if not different else "**Sides that differ:**", *(f"- {d}" for d in different)]
    lines += ["", "## Training steps", "", "| model | " + " | ".join(sides := list(dict.fromkeys(u.who for u in units if u.section in MODELS))) + " |", "|---" * (len(sides) + 1) + "|"]
    for name, (title, _) in MODELS.items():
        for precision in ("tf32", "float32"):
            found = seconds_of([u for u in units if u.precision == precision], name, "step")
            if found:
                lines.append(f"| {title}, {precision} | " + " | ".join(duration(found[s]) if s in found else "" for s in sides) + " |")
    lines += ["", "Ours as `train_on_batch` is called, which gives the loss to the host at every step; peers start steps one after another and wait at the end."]
    for unit in units:
        lines += ["", f"## {unit.name}: {unit.state}" + (f" ({unit.took:.1f} s)" if unit.took else ""), ""]
        if unit.records:
            lines += ["| what | time | | |", "|---|---|---|---|", *(f"| {line_of(r, best)} |" for r in unit.records)]
        if unit.note:
            lines += ["", "```", unit.note.strip(), "```"] if "\n" in unit.note else ["", unit.note]
    return "\n".join(lines) + "\n"


def write(units: list[Unit], facts: dict[str, str], began: float, out: Path) -> None:
    took = time.monotonic() - began
    judged = [{"aim": a, "figure": f, "met": m} for a, f, m in aims(units)]
    data = {"machine": facts, "seconds": took, "copy_bytes_per_second": bandwidth(units), "aims": judged, "differences": differences(units), "parts": [asdict(u) for u in units]}
    for path, text in ((out.with_suffix(".json"), json.dumps(data, indent=1)), (out.with_suffix(".md"), as_markdown(units, facts, took))):
        spare = path.with_name(path.name + ".new")
        spare.write_text(text, encoding="utf-8")
        os.replace(spare, path)


# -- kernels ahead of time -----------------------------------------------------------------------------------------------------
def compile_all(folder: Path, archs: Sequence[str], sections: Sequence[str], tiny: bool) -> int:
    """Every kernel of every section and of the numeric suite, for GPUs that are elsewhere; the exit code."""
    os.environ |= {"GRAPHC_WARM": "1", "GRAPHC_WARM_ARCH": ",".join(archs), "GRAPHC_CACHE": str(folder.absolute())}
    from graphc.backends.cuda.ahead import begin

    made, bad = begin(), 0
    units = [u for u in plan() if u.who == GRAPHC and (not sections or u.section in sections)]
    for unit in units:
        began = time.monotonic()
        try:
            if unit.section == "numeric":
                _compile_numeric(tiny)
            else:
                run_here(unit, tiny, True, lambda **record: None)
        except Exception:
            traceback.print_exc()
            bad += 1
        print(f"{unit.name}: {time.monotonic() - began:.0f} s; {len(made.kernels)} kernels in all", flush=True)
    return int(bad > 0)


def _compile_numeric(tiny: bool) -> None:
    from graphc.compiler import compile_graph
    from tests.cuda import cases, models
    from tests.ops.cases import OPS, sample_graph

    records = [(lambda op=op, dtype=dtype: sample_graph(op, dtype)[0]) for op, dtype in cases.CASES]
    halves = [op for op in OPS if op.name in cases.HALVES]
    records += [(lambda op=op, dtype=dtype: sample_graph(op, dtype)[0]) for op in halves for dtype in ("float16", "bfloat16")]
    records += [(lambda op=op: cases.slope_graph(op)[0]) for op in cases.SLOPES]
    for graph in records[:2] if tiny else records:
        compile_graph(graph(), "cuda")
    for name in ["mlp"] if tiny else models.MODELS:
        for optimizer in (None, models.optim.Adam(1e-2)):
            model = models.compiled(name, "cuda", optimizer)
            x, y = models.batch(name, 3)
            model.train_on_batch(x, y)
            model.predict(x)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_first_run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.8, help="all that it may take (8.8)")
    parser.add_argument("--out", type=Path, default=Path("gpu_first_run"), help="the report: this name with .md and .json")
    parser.add_argument("--only", default="", help="sections, separated by commas")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on a made-up GPU, to see that everything runs")
    parser.add_argument("--compile", type=Path, metavar="FOLDER", help="compile all kernels for --arch into a folder, without a GPU, and measure nothing")
    parser.add_argument("--arch", default="sm_90a", help="architectures for --compile, separated by commas (sm_90a)")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--who", default=GRAPHC, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--part-out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ahead", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.part:
        return part_main(Unit(args.part, args.who, args.precision), args.dry_run, args.ahead, args.part_out)
    sections = [s for s in args.only.split(",") if s]
    unknown = set(sections) - {u.section for u in plan()}
    if unknown:
        parser.error(f"there is no section {', '.join(sorted(unknown))}: {', '.join(dict.fromkeys(u.section for u in plan()))}")
    if args.compile:
        return compile_all(args.compile, args.arch.split(","), sections, args.dry_run)
    units = [u for u in plan() if not sections or u.section in sections]
    if args.dry_run:  # the other precision runs the same lines
        units = [u for u in units if not (u.section in MODELS and u.precision == "float32")]
    return measure(args, units)


def measure(args: argparse.Namespace, units: list[Unit]) -> int:
    import graphc as gc

    began = time.monotonic()
    why = gc.cuda.why_not()
    if why and not args.dry_run:
        print(f"no GPU can be used: {why}", file=sys.stderr)
        return 1
    facts = machine(args.dry_run)
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(units, 60 * args.minutes, Path(folder), args.dry_run, here=args.dry_run, say=lambda text: print(text, flush=True))
        if not args.dry_run:
            from graphc.backends.cuda.probe import require
            from graphc.backends.cuda.toolchain import architectures, toolchain_missing

            arch = architectures(require().capability)[0]
            if not toolchain_missing():
                runner.compile_beside(arch, max(1, (os.cpu_count() or 2) // 2))
        runner.run(lambda: write(units, facts, began, args.out))
    bad = [u for u in units if u.state in ("failed", "wrong")]
    print(f"{args.out.with_suffix('.md')}: {sum(u.state == 'done' for u in units)} of {len(units)} parts done, {len(bad)} failed")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())

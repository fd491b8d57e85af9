"""What a run stands on besides its disk: python, packages, torch and its device, git, threads, variables."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ostinato.cli.checks.answer import Answer
from ostinato.experiment.git import ask, has_git

OLDEST_PYTHON = (3, 11)
REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^\]]*\])?\s*([^;]*?)\s*(?:;.*extra\s*==\s*['\"]([\w.-]+)['\"].*)?\Z")
BOUND = re.compile(r"(>=|<=|==|!=|<|>)\s*([\d.]+)")
SMI_SECONDS = 20


def python() -> Iterator[Answer]:
    """Its version."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        yield Answer("python", "problem", f"{found}, too old", "Use Python 3.11 or newer.")
    else:
        yield Answer("python", "ok", f"{found} ({sys.executable})")


def packages() -> Iterator[Answer]:
    """What ostinato needs is there in a version that it is made for; which extras are."""
    try:
        wanted = metadata.requires("ostinato") or []
    except metadata.PackageNotFoundError:
        yield Answer("packages", "warning", "ostinato is not installed, only found", "pip install -e . in its folder.")
        return
    extras: dict[str, list[str]] = {}
    lacking: list[str] = []
    for name, bounds, extra in (match.groups() for text in wanted if (match := REQUIREMENT.match(text))):
        short = unmet(name, bounds)
        if extra is None:
            lacking += [short] if short else []
        else:
            extras.setdefault(extra, []).extend([short] if short else [])
    if lacking:
        remedy = "pip install " + " ".join(f"'{text.partition(' (')[0]}'" for text in lacking)
        yield Answer("packages", "problem", f"not what ostinato needs: {', '.join(lacking)}", remedy)
    else:
        yield Answer("packages", "ok", "all that ostinato needs")
    told = [extra if not missing else f"{extra} (lacks {', '.join(missing)})" for extra, missing in extras.items()]
    yield Answer("extras", "ok", ", ".join(told) or "none known")


def unmet(name: str, bounds: str) -> str | None:
    """`torch<2.14,>=2.11 (2.9.0 is here)`; None where the requirement is met."""
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name}{bounds} (missing)"
    return None if within(found, bounds) else f"{name}{bounds} ({found} is here)"


def within(found: str, bounds: str) -> bool:
    """Whether a version keeps bounds such as `<2.14,>=2.11`."""
    for sign, text in BOUND.findall(bounds):
        there, bound = numbers(found), numbers(text)
        width = max(len(there), len(bound))
        a, b = (side + (0,) * (width - len(side)) for side in (there, bound))
        holds = {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, "<": a < b, ">": a > b}
        if not holds[sign]:
            return False
    return True


def numbers(version: str) -> tuple[int, ...]:
    """2.13.0+cu128 -> (2, 13, 0)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def driver() -> str | None:
    """The version of NVIDIA's driver; None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SMI_SECONDS)
    lines = done.stdout.split()
    return lines[0] if done.returncode == 0 and lines else "not answering"


def device() -> Iterator[Answer]:
    """Torch computes what it should, on the device that is there."""
    try:
        import torch
    except Exception as error:  # a broken build raises whatever it likes
        yield Answer("torch", "problem", f"cannot be imported: {error}", "Install torch again.")
        return
    found, build = driver(), torch.version.cuda
    yield Answer("torch", "ok", f"{torch.__version__}, built for {f'CUDA {build}' if build else 'the CPU'}")
    if found == "not answering":
        yield Answer("driver", "problem", "nvidia-smi fails", "Reload or reinstall the NVIDIA driver; see dmesg.")
    elif found is not None:
        yield Answer("driver", "ok", f"NVIDIA {found}")
    if not torch.cuda.is_available():
        if found and not build:
            yield Answer("device", "warning", "there is a GPU, but this torch cannot use it", "Install torch for CUDA.")
        elif found and os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
            yield Answer("device", "warning", "CUDA_VISIBLE_DEVICES hides the GPU", "unset CUDA_VISIBLE_DEVICES")
        elif found:
            text = f"torch for CUDA {build} finds no GPU with driver {found}"
            yield Answer("device", "problem", text, "Update the driver, or install torch for an older CUDA.")
        else:
            yield Answer("device", "ok", "the CPU; there is no NVIDIA driver")
        return
    yield from gpus(torch)


def gpus(torch: Any) -> Iterator[Answer]:
    """Each GPU does a sum."""
    for number in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_name(number)
        try:
            right = torch.ones(1000, device=f"cuda:{number}").sum().item() == 1000.0
        except RuntimeError as error:
            text = f"cuda:{number} ({name}): {str(error).splitlines()[0]}"
            yield Answer("device", "problem", text, "Use a torch whose build covers this GPU; free its memory.")
            continue
        text = f"cuda:{number} {name}, {torch.cuda.get_device_properties(number).total_memory / 2**30:.0f} GiB"
        if right:
            yield Answer("device", "ok", text)
        else:
            yield Answer("device", "problem", f"{text}: adds wrongly", "The GPU is broken; use another one.")


def git() -> Iterator[Answer]:
    """Git, and whether the code of this folder can be captured."""
    if not has_git():
        remedy = "Install git; without it a run keeps its code as a plain archive."
        yield Answer("git", "warning", "there is no git command", remedy)
        return
    version = (ask(Path.cwd(), "version") or "git").removeprefix("git version ")
    top = ask(Path.cwd(), "rev-parse", "--show-toplevel")
    if top is None and not any((folder / "pyproject.toml").is_file() for folder in (Path.cwd(), *Path.cwd().parents)):
        text = f"{version}; this folder is in no project, so runs started here keep no code of yours"
        yield Answer("git", "warning", text, "git init in the project's folder, and start runs from inside.")
    else:
        yield Answer("git", "ok", f"{version}, {f'work tree {top}' if top else 'no work tree, but a pyproject.toml'}")


def variables(environ: Mapping[str, str] = os.environ) -> Iterator[Answer]:
    """Variables that change results, slow a run down, or make it wait for ranks that are not there."""
    told = len(list(wrong := list(_wrong(environ))))
    yield from wrong
    if not told:
        yield Answer("variables", "ok", "none that would surprise")


def _wrong(environ: Mapping[str, str]) -> Iterator[Answer]:
    workspace = environ.get("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if workspace not in (":4096:8", ":16:8"):
        text = f"CUBLAS_WORKSPACE_CONFIG={workspace}: deterministic numerics fail on a GPU"
        yield Answer("variables", "warning", text, "unset CUBLAS_WORKSPACE_CONFIG")
    if environ.get("NVIDIA_TF32_OVERRIDE") is not None:
        yield Answer("variables", "warning", "NVIDIA_TF32_OVERRIDE overrules numerics", "unset NVIDIA_TF32_OVERRIDE")
    if environ.get("CUDA_LAUNCH_BLOCKING", "0") != "0":
        yield Answer("variables", "warning", "CUDA_LAUNCH_BLOCKING slows a GPU down", "unset CUDA_LAUNCH_BLOCKING")
    if environ.get("WORLD_SIZE", "1") not in ("", "1") and "TORCHELASTIC_RUN_ID" not in environ:
        text = f"WORLD_SIZE={environ['WORLD_SIZE']} outside a launcher: training would wait for the others"
        yield Answer("variables", "warning", text, "unset RANK LOCAL_RANK WORLD_SIZE, unless a launcher set them.")


def threads(environ: Mapping[str, str] = os.environ, limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> Iterator[Answer]:
    """As many threads as there are cores to run them; their number is part of the bits of a result."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = granted(limit)
    usable = min(cores, max(1, round(quota))) if quota else cores
    given = environ.get("OMP_NUM_THREADS", "")
    count = int(given) if given.isdigit() and int(given) else cores
    source = f"OMP_NUM_THREADS={given}" if given else "OMP_NUM_THREADS is not set"
    text = f"{count} threads ({source}), {usable} cores to use"
    if count > usable:
        yield Answer("threads", "warning", text, f"export OMP_NUM_THREADS={usable}, or set training.threads.")
    else:
        yield Answer("threads", "ok", text)


def granted(limit: Path) -> float | None:
    """Cores that a container may use at once (cgroup v2); None without a limit."""
    try:
        quota, period = limit.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None

"""The checkpoints of a run, read without torch: which there are, who needs them, where two differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostinato.core.errors import RefusedError, UserError
from ostinato.core.manifest import Damaged, NewerFormat, read_checkpoint
from ostinato.experiment.facts import checkpoints
from ostinato.experiment.finding import find_run, run_folders
from ostinato.experiment.reading import is_run, read_or_empty

if TYPE_CHECKING:
    import numpy

CHUNK_ELEMENTS = 1 << 22
DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"},
    **{"U8": "u1", "BOOL": "?"},
}


@dataclass(frozen=True)
class TensorDifference:
    """Where a tensor differs. `largest` |a - b|: NaN where one is NaN, None if they cannot be subtracted."""

    name: str
    problem: str
    largest: float | None = None
    elements: int | None = None  # that differ
    of: int | None = None


def find_checkpoint(target: str, root: Path) -> tuple[Path, Path | None]:
    """`RUN` or `RUN@step`: the run's folder, and the checkpoint's; raises UserError with the steps there are."""
    name, at, step = target.rpartition("@")
    if not at or is_run(root / target) or is_run(Path(target)):
        return find_run(target, root), None
    run = find_run(name, root)
    folder = run / "checkpoints" / f"step_{int(step):08d}" if step.isdecimal() else None
    if folder is None or not folder.is_dir():
        raise UserError(f"{target}: {run.name} has no checkpoint of step {step}; there are: {_steps(run)}.")
    return run, folder


def newest_checkpoint(run: Path) -> Path:
    """Of the largest step, whatever its state; raises UserError if there is none."""
    found = [entry["name"] for entry in checkpoints(run) if "." not in entry["name"]]
    if not found:
        raise UserError(f"{run.name} has no checkpoint yet.")
    return run / "checkpoints" / found[-1]


def _steps(run: Path) -> str:
    names = [entry["name"] for entry in checkpoints(run)]
    return ", ".join(str(int(name[5:])) for name in names if name[5:].isdecimal()) or "none"


def listed(run: Path) -> list[dict[str, Any]]:
    """Each checkpoint: name, step, bytes, problem (by its manifest), `saved`, metrics, and the runs that pin it."""
    pins: dict[str, list[str]] = {}
    for path in sorted((run / "checkpoints" / "pins").glob("*-step_*.json")):
        child, _, step = path.stem.rpartition("-")
        pins.setdefault(step, []).append(child)
    needed = {child for children in pins.values() for child in children}
    others = run_folders(run.resolve().parent) if needed else []
    names = {read_or_empty(other / "metadata.json").get("id"): other.name for other in others}
    entries = checkpoints(run)
    for entry in entries:
        manifest = {} if entry["problem"] else read_or_empty(run / "checkpoints" / entry["name"] / "manifest.json")
        entry |= {"created": manifest.get("created"), "metrics": manifest.get("metrics", {})}
        entry["pinned_by"] = [{"id": child, "run": names.get(child)} for child in pins.pop(entry["name"], [])]
    for name, children in pins.items():
        pinned = [{"id": child, "run": names.get(child)} for child in children]
        lost = {
            "name": name,
            "step": int(name[5:]),
            "bytes": None,
            "problem": "pinned, and missing",
            "pinned_by": pinned,
        }
        entries.append({**lost, "created": None, "metrics": {}})
    return entries


def differences(first: Path, second: Path) -> list[TensorDifference]:
    """The tensors of two checkpoints that are not the same bytes. Raises RefusedError for a damaged one."""
    a, b = tensors_of(first), tensors_of(second)
    found = []
    for name in dict.fromkeys([*a, *b]):
        if name not in a or name not in b:
            found.append(TensorDifference(name, f"only in the {'first' if name in a else 'second'}"))
        elif (a[name]["dtype"], list(a[name]["shape"])) != (b[name]["dtype"], list(b[name]["shape"])):
            kinds = [f"{one[name]['dtype']} {list(one[name]['shape'])}" for one in (a, b)]
            found.append(TensorDifference(name, f"{kinds[0]} against {kinds[1]}"))
        elif a[name]["xxh3"] != b[name]["xxh3"]:
            found.append(_difference(name, open_tensor(first, name, a[name]), open_tensor(second, name, b[name])))
    return found


def tensors_of(checkpoint: Path) -> dict[str, dict[str, Any]]:
    """Name -> {file, dtype, shape, xxh3}, as the manifest lists them."""
    try:
        return read_checkpoint(checkpoint)["tensors"]
    except (Damaged, NewerFormat, OSError, KeyError) as error:
        raise RefusedError(f"{checkpoint}: {error}") from None


def open_tensor(checkpoint: Path, name: str, entry: dict[str, Any]) -> numpy.ndarray | None:
    """Its elements, flat and on the disk, BF16 as its 16 bits; None for a kind of number that NumPy has not."""
    import numpy

    path = checkpoint / entry["file"]
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            begin, end = json.loads(file.read(size))[name.partition("/")[2]]["data_offsets"]
        if entry["dtype"] not in DTYPES:
            return None
        kind = numpy.dtype(DTYPES[entry["dtype"]])
        count = (end - begin) // kind.itemsize
        return numpy.memmap(path, kind, "r", 8 + size + begin, (count,)) if count else numpy.empty(0, kind)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"{path}: damaged: {name} cannot be read: {error}") from None


def _difference(name: str, a: numpy.ndarray | None, b: numpy.ndarray | None) -> TensorDifference:
    import numpy

    if a is None or b is None:
        return TensorDifference(name, "differs")
    largest, differing = 0.0, 0
    for one, other in _chunks(a, b):
        with numpy.errstate(invalid="ignore"):  # infinity minus itself
            gap = numpy.abs(one - other)
        gap[(one == other) | (numpy.isnan(one) & numpy.isnan(other))] = 0
        differing += int(numpy.count_nonzero(gap))
        largest = float(numpy.maximum(largest, gap.max()))  # NaN stays
    return TensorDifference(name, "differs", largest, differing, len(a))


def _chunks(a: numpy.ndarray, b: numpy.ndarray) -> Iterator[list[numpy.ndarray]]:
    """Pieces of both as float64."""
    import numpy

    for begin in range(0, len(a), CHUNK_ELEMENTS):
        pieces = [numpy.asarray(tensor[begin : begin + CHUNK_ELEMENTS]) for tensor in (a, b)]
        if a.dtype == "<u2":
            pieces = [(piece.astype("<u4") << 16).view("<f4") for piece in pieces]
        yield [piece.astype(numpy.float64) for piece in pieces]

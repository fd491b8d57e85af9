"""`provenance/environment.json`: software, hardware and variables that results may depend on; no torch import."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ostinato.core.manifest import hash_of
from ostinato.experiment.secrets import allowed_variables, masked

# what can change bits, compared on resume (beside the variables of these prefixes)
BITS = ["python", "packages.torch", "packages.numpy", "torch", "cuda", "cudnn", "nccl", "driver", "devices"]
BITS += ["cpu.model", "cpu.capability", "cpu.mkldnn", "threads.intra", "threads.inter", "optimizer", "numerics"]
BITS += ["world"]
BIT_VARIABLES = ("CUBLAS_", "NCCL_", "OMP_", "MKL_", "ONEDNN_", "ATEN_")
WHERE = ("host", "ranks")  # left out of the hash: the same machine model elsewhere is the same environment


def packages() -> dict[str, str]:
    """All installed distributions with versions; an editable or VCS install with its origin."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if not name or name.lower() in found:  # the first on the path is the one that is imported
            continue
        version = distribution.version or "unknown"
        direct = distribution.read_text("direct_url.json")
        if direct:
            origin = json.loads(direct)
            commit = origin.get("vcs_info", {}).get("commit_id", "")
            editable = " editable" if origin.get("dir_info", {}).get("editable") else ""
            url = "" if editable else f" {masked(origin.get('url', ''))}"
            version = f"{version}{editable}{url}{' ' + commit if commit else ''}"
        found[name.lower()] = version
    return dict(sorted(found.items()))


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")]
    return names[0] if names else platform.machine()


def memory_gib() -> float | None:
    """Memory of the machine."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1)
    except (ValueError, OSError):
        return None


def collect(torch_facts: Mapping[str, Any] | None = None, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The environment of this process. `torch_facts` (torch's build, devices, threads, ...) come from the caller:
    keys are merged in, mappings into mappings."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts: dict[str, Any] = {
        "version": 1,
        "host": platform.node(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "executable": os.path.basename(sys.executable),
        "os": platform.platform(),
        "libc": " ".join(platform.libc_ver()),
        "cpu": {"model": cpu_model(), "machine": platform.machine(), "cores": cores},
        "memory_gib": memory_gib(),
        "packages": packages(),
        "variables": allowed_variables(environ),
    }
    for name, value in (torch_facts or {}).items():
        facts[name] = {**facts[name], **value} if isinstance(facts.get(name), dict) else value
    return facts


def environment_hash(facts: Mapping[str, Any]) -> str:
    """The hash of an environment without the names of hosts."""
    where_free = {name: value for name, value in facts.items() if name not in WHERE}
    variables = {k: v for k, v in facts.get("variables", {}).items() if not k.startswith(("SLURM_", "MASTER_"))}
    return hash_of({**where_free, "variables": variables})


def hardware(facts: Mapping[str, Any]) -> str:
    """One line: `1 x NVIDIA H200, 16 cores`."""
    devices = facts.get("devices") or []
    names = [device.get("name", "device") if isinstance(device, Mapping) else str(device) for device in devices]
    counts = [f"{names.count(name)} x {name}" for name in dict.fromkeys(names)]
    return ", ".join([*(counts or [facts["cpu"]["model"]]), f"{facts['cpu']['cores']} cores"])


def bits(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Those facts that can change the bits of a result, by dotted name."""
    found: dict[str, Any] = {}
    for name in BITS:
        value: Any = facts
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            found[name] = value
    variables = facts.get("variables", {})
    return found | {f"variables.{n}": v for n, v in variables.items() if n.startswith(BIT_VARIABLES)}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What can change bits and differs between two environments: [{name, old, new}]."""
    before, now = bits(old), bits(new)
    return [
        {"name": name, "old": before.get(name), "new": now.get(name)}
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]

"""The tiers of numerics: what each sets in torch, what it refuses, and what is recorded to compare on resume."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from ostinato.core.errors import UserError

if TYPE_CHECKING:
    import torch

    from ostinato.core.config import Config

PROMISES = {
    "fast": "same data, order and learning rates; bits may differ from run to run",
    "deterministic": "same bits from run to run and after a resume, on equal hardware, threads and ranks",
}
RECORDED_VARIABLES = ("CUBLAS_", "NCCL_", "OMP_", "MKL_", "ONEDNN_", "ATEN_")


def prepare_environment() -> None:
    """Variables that torch reads when it is imported: to be called before that."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def choose_tier(requested: str, device: torch.device) -> str:
    """`auto` is fast on an accelerator and deterministic on the CPU."""
    if requested == "auto":
        return "deterministic" if device.type == "cpu" else "fast"
    return requested


def apply_tier(tier: str, config: Config, device: torch.device) -> None:
    """Set torch's switches for the tier. Raises UserError for what the tier cannot honour; nothing is downgraded."""
    import torch
    import torch.utils.deterministic

    if tier == "elastic":
        raise UserError(
            "training.numerics: elastic (the same bits on any number of ranks) is not built yet. "
            "Use deterministic: the same bits on an equal number of ranks."
        )
    exact = tier == "deterministic"
    torch.use_deterministic_algorithms(exact)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not exact
    torch.backends.cudnn.deterministic = exact
    torch.backends.cuda.enable_cudnn_sdp(not exact)
    torch.set_float32_matmul_precision("highest" if device.type == "cpu" else "high")


def set_threads(requested: int | None) -> int:
    """CPU threads of torch's operators: sums, layer norms and convolutions depend on their number."""
    import torch

    if requested is not None:
        torch.set_num_threads(requested)
    return torch.get_num_threads()


def optimizer_implementation(tier: str) -> str:
    """Fused is deterministic for tensors of a fixed shape; foreach gives the same bits however tensors are cut."""
    return "foreach" if tier == "elastic" else "fused"


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bf16 computes in bfloat16; parameters, optimizer state, reductions and losses stay fp32."""
    import torch

    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def facts(device: torch.device, tier: str, world: dict[str, Any]) -> dict[str, Any]:
    """What can change bits: recorded per segment and compared on resume."""
    import platform

    import numpy
    import torch

    found = {
        "torch": torch.__version__,
        "torch_git": torch.version.git_version,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "cuda": torch.version.cuda,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkldnn": torch.backends.mkldnn.is_available(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "numerics": tier,
        "world": world,
    }
    if device.type == "cuda":
        found["cudnn"] = torch.backends.cudnn.version()
        found["driver"] = torch.cuda.driver_version() if hasattr(torch.cuda, "driver_version") else None
    variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith(RECORDED_VARIABLES)}
    return {**found, "variables": variables}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """`torch: 2.12.0 then, 2.13.0 now` for each recorded fact that changed."""
    return [
        f"{name}: {before.get(name)} then, {now.get(name)} now"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]

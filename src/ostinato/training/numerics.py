"""The tiers of numerics: what each sets in torch, what it refuses, and what is recorded to compare on resume."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from ostinato.core.errors import UserError

if TYPE_CHECKING:
    import torch

    from ostinato.core.config import Config
    from ostinato.core.schema import Training
    from ostinato.distributed.strategy import Strategy

PROMISES = {
    "fast": "same data, order and learning rates; bits may differ from run to run",
    "deterministic": "same bits from run to run and after a resume, on equal hardware, threads and ranks",
    "elastic": "same bits on 1, 2, 4, ... ranks, even if their number changes at a resume, on equal hardware",
}


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

    exact = tier != "fast"
    torch.use_deterministic_algorithms(exact)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not exact
    torch.backends.cudnn.deterministic = exact
    torch.backends.cuda.enable_cudnn_sdp(not exact)
    torch.set_float32_matmul_precision("highest" if device.type == "cpu" else "high")


def check_elastic(training: Training, strategy: Strategy) -> None:
    """Raise UserError for what cannot give the same bits on any number of ranks."""

    def refuse(key: str, reason: str) -> UserError:
        return UserError(f"{key}: {reason} Or choose training.numerics: deterministic.")

    if not hasattr(strategy, "elastic") or strategy.sharded:
        raise refuse("distributed.strategy", "elastic numerics are built for single and ddp. Choose one of them.")
    if strategy.world_size & (strategy.world_size - 1):
        raise refuse("training.numerics", f"elastic takes 1, 2, 4, 8, ... ranks, not {strategy.world_size}.")
    if training.micro_batch_size is None:
        raise refuse("training.micro_batch_size", "elastic sums by micro-batch, so their size must be set.")
    if training.threads not in (None, 1):
        raise refuse("training.threads", "elastic computes with 1 thread. Leave it out.")
    if training.compile:
        raise refuse("training.compile", "elastic computes as written. Leave it out.")


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
    """What torch knows of what can change bits; a run records it per segment and compares it on resume."""
    import torch

    found: dict[str, Any] = {
        "torch": f"{torch.__version__} ({torch.version.git_version})",
        "cuda": torch.version.cuda,
        "devices": [],
        "cpu": {
            "capability": torch.backends.cpu.get_cpu_capability(),
            "mkldnn": torch.backends.mkldnn.is_available(),
        },
        "threads": {"intra": torch.get_num_threads(), "inter": torch.get_num_interop_threads()},
        "optimizer": optimizer_implementation(tier),
        "numerics": tier,
        "world": {} if tier == "elastic" else world,  # there it changes no bit
    }
    if device.type == "cuda":
        found["cudnn"] = torch.backends.cudnn.version()
        found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
        found["devices"] = [torch.cuda.get_device_name(device)]
    return found

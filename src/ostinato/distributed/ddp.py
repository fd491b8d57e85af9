"""Data parallelism by replicas: every rank holds the whole model, gradients are summed in fixed buckets.

torch's DistributedDataParallel is not used: it averages, and it rearranges its buckets after the first step, so that a
resumed run would add in another order than an uninterrupted one. Here buckets are a function of the model alone.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ostinato.core.errors import UserError
from ostinato.core.registry import STRATEGIES
from ostinato.distributed.single import Single
from ostinato.distributed.strategy import choose_device, rank_from_environment


@STRATEGIES.register("ddp")
class DataParallel(Single):
    """Replicas on every rank; one all-reduce (sum) per bucket, overlapping the last backward pass of the step."""

    def __init__(self, device: str, *, bucket_megabytes: int = 25, timeout_seconds: int = 1800) -> None:
        self.rank, self.local_rank, self.world_size = rank_from_environment()
        self.device = choose_device(device, self.local_rank)
        self.bucket_bytes = bucket_megabytes << 20
        self.timeout = timedelta(seconds=timeout_seconds)
        self.buckets: list[Bucket] = []
        self.control: dist.ProcessGroup | None = None

    def setup(self) -> None:
        if "MASTER_ADDR" not in os.environ:
            raise UserError(
                "distributed.strategy: ddp needs ranks. Start it with `ostinato launch CONFIG --nproc N` (or torchrun)."
            )
        backend = "nccl" if self.device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=self.rank, world_size=self.world_size, timeout=self.timeout)
        self.control = dist.new_group(backend="gloo", timeout=self.timeout)

    def close(self) -> None:
        """Leave the group, and keep nothing whose threads the interpreter's end would have to stop."""
        self.control = None
        if dist.is_initialized():
            dist.destroy_process_group()

    def wrap_model(self, model: nn.Module) -> nn.Module:
        if self.elastic:
            return super().wrap_model(model)
        parameters = [p for p in reversed(list(model.parameters())) if p.requires_grad]
        self.buckets = [Bucket(group) for group in by_size(parameters, self.bucket_bytes)]
        self.launched = len(self.buckets)  # not armed
        for bucket in self.buckets:
            for parameter in bucket.parameters:
                parameter.register_post_accumulate_grad_hook(lambda _, bucket=bucket: self.ready(bucket))
        return model

    def backward(self, loss: Tensor, *, last: bool) -> None:
        if self.elastic:
            return super().backward(loss, last=last)
        if last:
            self.launched = 0
            for bucket in self.buckets:
                bucket.waiting = len(bucket.parameters)
        loss.backward()
        if last:
            for bucket in self.buckets[self.launched :]:  # those with a parameter that took no part
                bucket.launch()
            self.launched = len(self.buckets)
            for bucket in self.buckets:
                bucket.finish()

    def ready(self, bucket: Bucket) -> None:
        """One more gradient is complete: launch what is complete, in the same order on every rank."""
        if self.launched == len(self.buckets):
            return
        bucket.waiting -= 1
        while self.launched < len(self.buckets) and self.buckets[self.launched].waiting == 0:
            self.buckets[self.launched].launch()
            self.launched += 1

    def sum(self, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    def gather(self, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(parts, tensor.contiguous(), group=self.control)
        return torch.stack(parts)

    def share(self, value: Any) -> Any:
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def state(self) -> dict[str, Any]:
        return {"size": self.world_size, "strategy": "ddp", "replicate": self.world_size, "shard": 1, "tensor": 1}


class Bucket:
    """Gradients of some parameters as one flat tensor, summed over ranks in the background."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.waiting = 0

    def launch(self) -> None:
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.flat = torch.cat([parameter.grad.reshape(-1) for parameter in self.parameters])  # type: ignore[union-attr]
        self.work = dist.all_reduce(self.flat, async_op=True)

    def finish(self) -> None:
        self.work.wait()
        parts = self.flat.split([parameter.numel() for parameter in self.parameters])
        torch._foreach_copy_(
            [parameter.grad for parameter in self.parameters],  # type: ignore[misc]
            [part.view_as(parameter) for part, parameter in zip(parts, self.parameters, strict=True)],
        )
        del self.flat, self.work


def by_size(parameters: list[nn.Parameter], limit_bytes: int) -> list[list[nn.Parameter]]:
    """Consecutive groups of one dtype, each up to `limit_bytes` (or a single larger parameter)."""
    groups: list[list[nn.Parameter]] = []
    size = 0
    for parameter in parameters:
        size += parameter.numel() * parameter.element_size()
        if not groups or size > limit_bytes or parameter.dtype != groups[-1][0].dtype:
            groups.append([])
            size = parameter.numel() * parameter.element_size()
        groups[-1].append(parameter)
    return groups

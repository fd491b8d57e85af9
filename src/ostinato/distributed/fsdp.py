"""Fully sharded data parallelism: each rank holds a part of every parameter, its gradient and its optimizer state.

torch's FSDP2 (`fully_shard`), one unit per block; embedding, last norm and head are one more. A unit is gathered for as
long as it computes. With `replicate` above 1 (HSDP) there are so many groups of ranks that each hold a whole model.
"""

from __future__ import annotations

import copy
import functools
import warnings
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ostinato.core.errors import OstinatoError, UserError
from ostinato.core.registry import STRATEGIES
from ostinato.distributed.ddp import DataParallel
from ostinato.distributed.shards import is_sharded, own, skeleton, whole, with_memory


@STRATEGIES.register("fsdp")
class FullySharded(DataParallel):
    """Parameters, gradients and optimizer state cut over ranks; gradients are summed, never averaged.

    `shard` -1: all ranks that `replicate` leaves. `reshard_after_forward`: free a block's whole weights after its
    forward pass and gather them again for its backward pass. `cpu_offload`: the parts live in host memory (CUDA only).
    `reduce_every_micro_batch`: no whole gradients are kept between the micro-batches of a step, for more traffic.
    """

    sharded = True

    def __init__(
        self,
        device: str,
        *,
        shard: int = -1,
        replicate: int = 1,
        reshard_after_forward: bool = True,
        cpu_offload: bool = False,
        reduce_every_micro_batch: bool = False,
        timeout_seconds: int = 1800,
    ) -> None:
        super().__init__(device, timeout_seconds=timeout_seconds)
        if cpu_offload and self.device.type == "cpu":
            raise UserError("distributed.cpu_offload: the parts are in host memory already. Leave it out.")
        self.replicate, self.shard = replicate, self.world_size // replicate if shard == -1 else shard
        if replicate < 1 or self.shard < 1 or self.replicate * self.shard != self.world_size:
            raise UserError(
                f"distributed: replicate {replicate} x shard {shard} are not the {self.world_size} ranks that were "
                "started. Leave shard out, or start as many ranks as their product."
            )
        self.reshard_after_forward, self.cpu_offload = reshard_after_forward, cpu_offload
        self.reduce_every_micro_batch = reduce_every_micro_batch
        self.skeletons: weakref.WeakKeyDictionary[nn.Module, nn.Module] = weakref.WeakKeyDictionary()
        self.trained: list[Any] = []
        self.mesh: Any = None

    def setup(self) -> None:
        super().setup()
        # Nothing here adds in place to what a block returns, which is what this warns of.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        shape, names = (self.replicate, self.shard), ("replicate", "shard")
        if self.replicate == 1:
            shape, names = shape[1:], names[1:]  # type: ignore[assignment]
        self.mesh = dist.init_device_mesh(self.device.type, shape, mesh_dim_names=names)

    def close(self) -> None:
        self.mesh = None
        super().close()

    def place(self, model: Any) -> nn.Module:
        from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

        self.skeletons[model] = skeleton(model)
        unit = functools.partial(fully_shard, mesh=self.mesh, offload_policy=self._offload())
        for block in model.blocks() if hasattr(model, "blocks") else []:
            unit(block, reshard_after_forward=self.reshard_after_forward, mp_policy=self._precision(self.compute_dtype))
        # What the model itself holds stays gathered from its forward to its backward pass, and in fp32, as the residual
        # stream and the norm at its end are: a product casts its operands where it takes place.
        unit(model, reshard_after_forward=False, mp_policy=self._precision(None))
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        model.register_forward_hook(lambda *_: None if torch.is_grad_enabled() else rest(model))
        for name in getattr(model, "forward_methods", ()):
            register_fsdp_forward_method(model, name)
            setattr(model, name, functools.partial(_then_rest, model, getattr(model, name)))
        model.__deepcopy__ = lambda memo: self.copied(model)
        if any(one.is_meta for one in model.parameters()):
            model.to_empty(device="cpu" if self.cpu_offload else self.device)
        return model

    def _precision(self, dtype: torch.dtype | None) -> Any:
        from torch.distributed.fsdp import MixedPrecisionPolicy

        return MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)

    @property
    def compute_dtype(self) -> torch.dtype | None:
        return torch.bfloat16 if self.mixed_precision == "bf16" else None

    def _offload(self) -> Any:
        from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy

        return CPUOffloadPolicy() if self.cpu_offload else OffloadPolicy()

    def wrap_model(self, model: nn.Module) -> nn.Module:
        self.trained = list(model.children()) if isinstance(model, nn.ModuleDict) else [model]
        return model

    def backward(self, loss: Tensor, *, last: bool) -> None:
        for model in self.trained:
            model.set_requires_gradient_sync(last or self.reduce_every_micro_batch)
        loss.backward()

    @torch.no_grad()
    def clip_grad_norm(self, parameters: Iterable[nn.Parameter], max_norm: float | None) -> Tensor:
        """The norm of the whole gradient: squares of parts are summed over the ranks of one copy of the model."""
        gradients = [one.grad for one in parameters if one.grad is not None]
        sharded = [own(one) for one in gradients if is_sharded(one)]
        plain = [one for one in gradients if not is_sharded(one)]
        total = self._squares(sharded)
        dist.all_reduce(total, group=self.mesh.get_group("shard"))
        norm = (total + self._squares(plain)).sqrt().float()
        if max_norm is not None:
            factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
            for part in (*sharded, *plain):
                part.mul_(factor.to(part.device))
        return norm

    def _squares(self, tensors: list[Tensor]) -> Tensor:
        """The sum of the squares of all elements, float64, 0-d, on this rank's device."""
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        if tensors:
            total += torch.stack(torch._foreach_norm(tensors)).double().square().sum().to(self.device)
        return total

    # ---- models beside the one that is sharded

    def copied(self, model: nn.Module) -> nn.Module:
        """Another model of the same values, sharded in the same way."""
        again = self.place(copy.deepcopy(self.skeletons[model]))
        with torch.no_grad():
            for target, source in zip(tensors_of(again), tensors_of(model), strict=True):
                own(target).copy_(own(source))
        return again.train(model.training)

    @contextmanager
    def whole_model(self, model: nn.Module) -> Iterator[nn.Module]:
        """A plain copy with all weights on this rank's device while the context lasts. All ranks must enter."""
        self._check_room(sum(one.numel() * one.element_size() for one in model.parameters()))
        plain = with_memory(copy.deepcopy(self.skeletons[model]), self.device)
        with torch.no_grad():
            for target, source in zip(tensors_of(plain), tensors_of(model), strict=True):
                target.copy_(whole(source))
        yield plain.train(model.training)

    def _check_room(self, needed: int) -> None:
        if self.device.type != "cuda":
            return
        free = torch.cuda.mem_get_info(self.device)[0]
        free += torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        if needed > free:
            raise OstinatoError(
                f"sampling needs a whole copy of the model on each device: {needed / 2**30:.1f} GiB, but "
                f"{free / 2**30:.1f} GiB are free. Shard over more devices, or lower training.micro_batch_size."
            )

    def state(self) -> dict[str, Any]:
        layout = {"replicate": self.replicate, "shard": self.shard, "tensor": 1}
        return {"size": self.world_size, "strategy": "fsdp", **layout}


def tensors_of(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers, tied ones once, in the order of the modules."""
    return [*model.parameters(), *model.buffers()]


def rest(model: Any) -> None:
    """Free what is gathered: parameters are the parts again, as all but forward and backward passes see them."""
    for module in model.modules():
        if hasattr(module, "reshard"):
            module.reshard()


def _then_rest(model: Any, method: Any, *inputs: Any, **options: Any) -> Any:
    """Call a method that reads weights. A frozen model's may stay gathered, since what it returns may refer to them."""
    found = method(*inputs, **options)
    if not torch.is_grad_enabled() and any(one.requires_grad for one in model.parameters()):
        rest(model)
    return found

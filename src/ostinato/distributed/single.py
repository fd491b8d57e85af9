"""One process, one device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ostinato.core.errors import UserError
from ostinato.core.registry import STRATEGIES
from ostinato.distributed.strategy import choose_device, rank_from_environment
from ostinato.distributed.tree_sum import TreeSum


@STRATEGIES.register("single")
class Single:
    """One process on one device; the other strategies keep its promises over many."""

    rank = 0
    world_size = 1
    elastic = False  # the same sum on any number of ranks; set before a model is wrapped
    tree: TreeSum | None = None
    sharded = False  # every rank holds the whole model
    mixed_precision = "fp32"  # set before a model is placed

    def __init__(self, device: str) -> None:
        self.device = choose_device(device)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def setup(self) -> None:
        if rank_from_environment()[2] > 1:
            raise UserError(
                "distributed.strategy: single, but several ranks were started. Set distributed.strategy to ddp."
            )

    def close(self) -> None:
        pass

    def place(self, model: nn.Module) -> nn.Module:
        """A model that was built, perhaps on the meta device, where it will be filled with its weights."""
        if any(one.is_meta for one in model.parameters()):
            return model.to_empty(device=self.device)
        return model.to(self.device)

    @contextmanager
    def whole_model(self, model: nn.Module) -> Iterator[nn.Module]:
        """The model as one process can run it alone, to sample from; all ranks enter, whatever they do with it."""
        yield model

    def wrap_model(self, model: nn.Module) -> nn.Module:
        """The model as it will be trained, on this rank's device."""
        if self.elastic:
            self.tree = TreeSum([p for p in model.parameters() if p.requires_grad], self.world_size)
        return model

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of one micro-batch; after the `last` of a step gradients are summed over ranks."""
        loss.backward()
        if self.tree is not None:
            self.tree.add(last=last)

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over data-parallel ranks, on the tensor's device."""
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """CPU tensors of all ranks, stacked: (W, ...)."""
        return tensor[None]

    def share(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        return value

    def clip_grad_norm(self, parameters: Iterable[nn.Parameter], max_norm: float | None) -> Tensor:
        """The global gradient norm before clipping; gradients are scaled down to `max_norm` unless it is None."""
        parameters = list(parameters)
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if max_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
        return norm

    def state(self) -> dict[str, Any]:
        """The world layout, as checkpoints record it."""
        return {"size": self.world_size, "strategy": "single", "replicate": 1, "shard": 1, "tensor": 1}

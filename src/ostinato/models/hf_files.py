"""Tensors as files of Hugging Face hold them, and as transformers' modules do: some classes rename, join or turn them.

Experts lie one by one in files and stacked in the module, say; transformers knows both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ostinato.core.errors import RefusedError


def from_files(kind: Any, config: Any, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a folder of Hugging Face with this `config` holds, by the names of the modules of the class `kind`, fp32.

    Raises RefusedError where something is missing, unknown or misshapen.
    """
    read, report = kind.from_pretrained(
        None,
        config=config,
        state_dict=dict(found),
        dtype=torch.float32,
        ignore_mismatched_sizes=True,  # they are reported, and refused below
        output_loading_info=True,
    )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if names := sorted(map(str, report[problem])):
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise RefusedError(f"{kind.__name__}: {problem.replace('_', ' ')}: {', '.join(names[:5])}{more}")
    persistent = read.state_dict(keep_vars=True)
    weights = dict(read.named_parameters())
    weights |= {name: buffer for name, buffer in read.named_buffers() if name in persistent}
    return {name: weight.detach() for name, weight in weights.items()}


def to_files(causal: Any, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse: tensors by the names of the modules, as transformers would save them. Others stay as they are."""
    from transformers.core_model_loading import revert_weight_conversion

    return dict(revert_weight_conversion(causal, dict(found)))

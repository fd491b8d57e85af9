"""peft's files: adapter_config.json and adapter_model.safetensors, as options of `lora` and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ostinato.core.errors import UserError

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
UNKNOWN = {  # of peft's, what has no counterpart here, and the values that mean it is not used
    "bias": ("none", None),
    "lora_bias": (False, None),
    "fan_in_fan_out": (False, None),
    "layers_to_transform": (None, []),
    "exclude_modules": (None, []),
    "target_parameters": (None, []),
    "trainable_token_indices": (None,),
    "layer_replication": (None,),
    "megatron_config": (None,),
    "alora_invocation_tokens": (None,),
    "use_bdlora": (None, False),
    "use_qalora": (False, None),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva", None),  # others change the base too
}


def peft_config(options: Mapping[str, Any], base: Mapping[str, Any], shared: bool) -> dict[str, Any]:
    """adapter_config.json of an adapter with these options."""
    saved = options["modules_to_save"]
    return {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if "score" in saved else "CAUSAL_LM",
        "base_model_name_or_path": base.get("folder"),
        "r": options["rank"],
        "lora_alpha": whole(options["alpha"]),
        "lora_dropout": options["dropout"],
        "target_modules": options["targets"],
        "rank_pattern": dict(options["ranks"]),
        "alpha_pattern": {name: whole(value) for name, value in options["alphas"].items()},
        "use_rslora": options["rslora"],
        "use_dora": options["dora"],
        "modules_to_save": saved or None,
        "ensure_weight_tying": shared,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def whole(value: float) -> float:
    """32 for 32.0."""
    return int(value) if float(value).is_integer() else value


def read_config(folder: Path) -> dict[str, Any]:
    """Options of `lora` from a folder's adapter_config.json, and `ensure_weight_tying`.

    Raises UserError for what `lora` has not.
    """
    path = folder / CONFIG
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        kind = found.get("peft_type")
        options = {
            "rank": found["r"],
            "alpha": float(found["lora_alpha"]),
            "targets": found["target_modules"],
            "ranks": dict(found.get("rank_pattern") or {}),
            "alphas": {name: float(value) for name, value in (found.get("alpha_pattern") or {}).items()},
            "rslora": bool(found.get("use_rslora")),
            "dora": bool(found.get("use_dora")),
            "modules_to_save": list(found.get("modules_to_save") or []),
            "ensure_weight_tying": bool(found.get("ensure_weight_tying")),
        }
    except OSError as error:
        raise UserError(f"{folder}: no adapter in peft's format here: {error}.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no configuration of an adapter: {error!r}.") from None
    if kind != "LORA":
        raise UserError(f"{path}: peft_type {kind}; only LORA is known here.")
    for name, plain in UNKNOWN.items():
        if found.get(name) not in plain:
            raise UserError(f"{path}: {name}: {found[name]!r} is not known here. Merge the adapter with peft instead.")
    return options


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder's adapter, by their names in the file."""
    path = folder / TENSORS
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read: {error}.") from None

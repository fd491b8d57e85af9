"""Low-rank adapters: beside each chosen projection W, which is frozen, a product B A of small rank is trained.

The projections are replaced in place, so the model's forward pass stays its own, and so do the names of its weights:
what is added to `q_proj` is `q_proj.lora_A.weight` and `q_proj.lora_B.weight`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ostinato.core import seeding
from ostinato.core.errors import UserError
from ostinato.core.mistakes import nearest
from ostinato.core.registry import MODELS
from ostinato.models.peft_format import PREFIX, peft_config, read_config, read_tensors
from ostinato.models.quantized import nf4, product

NEW = ("score.weight", "reward_mean", "reward_std")  # heads of value models, which a base has not


class AdaptedLinear(nn.Linear):
    """x W' + bias + scaling x A' B' (arXiv:2106.09685), W (out, in) and bias frozen, A (rank, in), B (out, rank) fp32.

    With `dora` (arXiv:2402.09353) the rows of W + scaling B A are brought to the trained lengths
    `lora_magnitude_vector`, (out,); what they are divided by is taken for a constant by the gradient. W may be
    quantized, and then stays so.
    """

    def __init__(self, base: nn.Linear, rank: int, scaling: float, dropout: float, dora: bool) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.rank, self.scaling, self.dropout = rank, scaling, dropout
        kind = {"bias": False, "device": base.weight.device, "dtype": torch.float32}
        self.lora_A = nn.utils.skip_init(nn.Linear, base.in_features, rank, **kind)
        self.lora_B = nn.utils.skip_init(nn.Linear, rank, base.out_features, **kind)
        for part in (self.lora_A, self.lora_B):
            part.weight.data.zero_()
        self.lora_magnitude_vector = nn.Parameter(self._sum().norm(dim=1)) if dora else None
        self.train(base.training)

    def forward(self, x: Tensor) -> Tensor:
        y = product(x, self.weight, self.bias)
        drops = bool(self.dropout) and self.training
        dropped = F.dropout(x, self.dropout) if drops else x
        low = self.lora_B(self.lora_A(dropped.to(self.lora_A.weight.dtype))) * self.scaling
        if self.lora_magnitude_vector is None:
            return (y + low).to(y.dtype)
        ratio = self.lora_magnitude_vector / self._sum().norm(dim=1)
        plain = product(dropped, self.weight) if drops else y if self.bias is None else y - self.bias
        return (y + (ratio - 1) * plain + ratio * low).to(y.dtype)

    def whole_weight(self) -> Tensor:
        """The one matrix that the module amounts to, (out, in), in the dtype of W."""
        whole = self._sum()
        if self.lora_magnitude_vector is not None:
            whole *= (self.lora_magnitude_vector.detach() / whole.norm(dim=1)).unsqueeze(1)
        return whole.to(self.weight.dtype)

    @torch.no_grad()
    def _sum(self) -> Tensor:
        """W + scaling B A, fp32."""
        with torch.autocast(self.weight.device.type, enabled=False):
            return self.weight.to(torch.float32) + self.scaling * (self.lora_B.weight @ self.lora_A.weight)

    def merged(self) -> nn.Linear:
        """A plain projection in its place, with a new weight in the dtype of W."""
        plain = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        plain.weight, plain.bias = nn.Parameter(self.whole_weight()), self.bias
        return plain.train(self.training)


class LoRALinear(AdaptedLinear):
    """With W in a floating type. It is decoded merged, which takes a merged copy while texts are sampled."""

    merged_weight = AdaptedLinear.whole_weight


@dataclass
class Adapter:
    """What of an adapted model is trained and stored; it lies at the model as `model.adapter`."""

    options: dict[str, Any]  # of `lora`, without `path`
    targets: list[str]  # modules
    chosen: list[str] | str  # the same in the words of peft
    whole: list[str]  # parameters that are trained themselves, or set by the algorithm, and are stored
    shared: bool  # whether the embedding that is trained in full is the head's weight too
    name: str = "lora"
    base: dict[str, Any] = field(default_factory=dict)  # where the frozen weights are from, and their hash
    digests: dict[str, str] = field(default_factory=dict)  # of each weight of the base, before it was cast

    def stored(self, model: nn.Module) -> dict[str, Tensor]:
        """The tensors that a checkpoint holds, by their names in peft's files."""
        names = {name for name, one in model.named_parameters() if one.requires_grad} | set(self.whole)
        found: dict[str, Tensor] = {name: one for name, one in model.named_parameters() if name in names}
        kept = model.state_dict(keep_vars=True)
        found |= {name: buffer for name, buffer in model.named_buffers() if name in kept}
        stored = {PREFIX + name: tensor for name, tensor in found.items()}
        if self.shared:
            stored[PREFIX + head_weight(model)] = model.output_weight  # type: ignore[assignment]
        return stored

    def check_precision(self, model: nn.Module, precision: str) -> None:
        """Raise UserError where weights trained in fp32 meet others that only autocast could join with them."""
        if precision == "fp32" and self.whole and any(one.dtype != torch.float32 for one in model.parameters()):
            where = "beside weights that are trained in full, in fp32"
            raise UserError(f"model.adapter.base_dtype: {where}, it wants training.mixed_precision: bf16.")

    def load(self, model: nn.Module, folder: Path) -> None:
        """Read such an adapter's weights from a folder; of the model's heads only those that the file has."""
        fill(model, read_tensors(folder), str(folder))

    def config(self, model: nn.Module) -> dict[str, Any]:
        """adapter_config.json."""
        names = {name.rpartition(".")[0] for name in self.whole}
        saved = sorted(name for name in names if name)
        return peft_config({**self.options, "targets": self.chosen, "modules_to_save": saved}, self.base, self.shared)

    @torch.no_grad()
    def merge(self, model: nn.Module) -> None:
        """Make the adapted model a plain one with the same outputs, in place."""
        for name in self.targets:
            module = model.get_submodule(name)
            assert isinstance(module, AdaptedLinear)
            replace(model, name, module.merged())
        model.requires_grad_(True)
        del model.adapter


@MODELS.register("lora")
def lora(
    model: nn.Module,
    seed: int = 0,
    *,
    rank: int = 16,
    alpha: float = 32.0,
    dropout: float = 0.0,
    targets: list[str] | str = "all-linear",
    ranks: dict[str, int] | None = None,
    alphas: dict[str, float] | None = None,
    rslora: bool = False,
    dora: bool = False,
    modules_to_save: list[str] | None = None,
    base_dtype: Literal["float32", "bfloat16", "nf4"] | None = None,
    path: Path | None = None,
) -> nn.Module:
    """LoRA (Hu et al. 2021, arXiv:2106.09685): frozen weights, and in `targets` a trained product of rank `rank`.

    For `model.adapter`. W x becomes W x + alpha / rank B A x; A starts as peft's does, uniform within 1 / sqrt(inputs),
    B at 0. `targets`: names of modules (`q_proj`: all that end in it), one regular expression for whole names, or
    all-linear: every linear layer but the head. `ranks` and `alphas`: other values for modules whose name ends in the
    pattern, a regular expression. `rslora`: alpha / sqrt(rank) (arXiv:2312.03732). `dora`: direction and length apart
    (arXiv:2402.09353). `modules_to_save` are trained in full and stored too, as a new head always is. `base_dtype`
    bfloat16 halves the frozen weights; nf4 (QLoRA, arXiv:2305.14314) also keeps those beside adapters in four bits;
    either wants mixed_precision bf16. `path`: a folder in peft's format, to go on
    from; all else but dropout and base_dtype is then as it says.
    """
    if not isinstance(model, nn.Module):
        raise UserError("model.name: lora is no model of its own. Write model: {name: ..., adapter: {name: lora}}.")
    if hasattr(model, "adapter"):
        raise UserError("model.adapter: the model has an adapter already. Merge it first.")
    options: dict[str, Any] = {
        "rank": rank, "alpha": alpha, "targets": targets, "ranks": ranks or {}, "alphas": alphas or {},
        "rslora": rslora, "dora": dora, "modules_to_save": modules_to_save or [],
    }  # fmt: skip
    ensured = True
    if path is not None:
        options |= read_config(path)
        ensured = options.pop("ensure_weight_tying")
    check(options, dropout)
    whole = whole_parameters(model, options["modules_to_save"])
    names = find_targets(model, options, whole, strict=path is None)
    output = getattr(model, "output_weight", None)
    shared = any(one is output and n != head_weight(model) for n, one in model.named_parameters() if n in whole)
    if shared and not ensured:
        raise UserError(f"{path}: it has trained the embedding apart from the head, and here the two are one tensor.")
    chosen = options["targets"]
    if chosen == "all-linear":
        chosen = short_names(names, linear_names(model))
    model.requires_grad_(False)
    if base_dtype is not None:
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.float32 if base_dtype == "float32" else torch.bfloat16)
    for name in names:
        own = pattern_value(options["ranks"], name, options["rank"])
        power = pattern_value(options["alphas"], name, options["alpha"])
        scaling = power / (math.sqrt(own) if options["rslora"] else own)
        base = linear(model, name)
        if base_dtype == "nf4":
            base.weight = nf4(base.weight)
        kind = AdaptedLinear if base_dtype == "nf4" else LoRALinear
        added = kind(base, own, scaling, dropout, options["dora"])
        bound = 1 / math.sqrt(added.in_features)
        generator = seeding.generator(seed, "init", f"{name}.lora_A.weight")
        drawn = torch.empty(added.lora_A.weight.shape).uniform_(-bound, bound, generator=generator)
        added.lora_A.weight.data.copy_(drawn)
        replace(model, name, added)
    for name, parameter in model.named_parameters():
        if name in whole:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(not name.startswith("reward_"))
    recorded = {**options, "dropout": dropout, "base_dtype": base_dtype}
    model.adapter = Adapter(recorded, names, chosen, whole, shared)  # type: ignore[assignment]
    if path is not None:
        model.adapter.load(model, path)  # type: ignore[operator,union-attr]
    return model


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers under the base's names, adapters merged; of a plain model as they are."""
    adapted = {name: module for name, module in model.named_modules() if isinstance(module, AdaptedLinear)}
    kept = model.state_dict(keep_vars=True)
    state: dict[str, Tensor] = dict(model.named_parameters())
    state |= {name: buffer for name, buffer in model.named_buffers() if name in kept}
    merged = {f"{name}.weight": module.whole_weight() for name, module in adapted.items()}
    return {name: merged.get(name, tensor.detach()) for name, tensor in state.items() if ".lora_" not in name}


def fill(model: Any, tensors: Mapping[str, Tensor], what: str) -> None:
    """Put the tensors of peft's file into an adapted model; of its heads only those that the file has."""
    wanted = model.adapter.stored(model)
    optional = {PREFIX + name for name in getattr(model, "heads", ())}
    if missing := sorted((set(wanted) ^ set(tensors)) - optional):
        raise UserError(f"{what}: these tensors are in one of file and model only: {', '.join(missing[:5])}.")
    with torch.no_grad():
        for name in sorted(wanted.keys() & tensors.keys()):
            if wanted[name].shape != tensors[name].shape:
                shapes = f"{list(tensors[name].shape)}, the model wants {list(wanted[name].shape)}"
                raise UserError(f"{what}: {name} has shape {shapes}.")
            wanted[name].copy_(tensors[name])


def check(options: Mapping[str, Any], dropout: float) -> None:
    """Refuse values that have no meaning."""
    smallest = min([options["rank"], *options["ranks"].values()])
    if smallest < 1:
        raise UserError(f"model.adapter: a rank of {smallest}; the least is 1.")
    if not 0 <= dropout < 1:
        raise UserError(f"model.adapter.dropout: {dropout}; it is from 0 up to, not including, 1.")
    for pattern in (*options["ranks"], *options["alphas"], options["targets"]):
        try:
            re.compile(pattern if isinstance(pattern, str) else "")
        except re.error as error:
            raise UserError(f"model.adapter: {pattern!r} is no regular expression: {error}.") from None


# ---- which modules


def head_weight(model: Any) -> str:
    """The name of the head's weight, the first of a model's `heads`."""
    return next(iter(getattr(model, "heads", ())), "")


def linear_names(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if type(module) is nn.Linear]


def linear(model: nn.Module, name: str) -> nn.Linear:
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear)
    return module


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put another module at a name."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def ends_in(name: str, wanted: str) -> bool:
    return name == wanted or name.endswith("." + wanted)


def pattern_value(patterns: Mapping[str, Any], name: str, default: Any) -> Any:
    """The value of the first pattern that the end of a name matches."""
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", name)), default)


def find_targets(model: Any, options: Mapping[str, Any], whole: list[str], *, strict: bool) -> list[str]:
    """Names of the modules to adapt. `strict`: each entry and each pattern must name something."""
    wanted = options["targets"]
    output, heads = getattr(model, "output_weight", None), set(getattr(model, "heads", ()))
    linears = linear_names(model)
    read = {name for name in linears if name + ".weight" in heads or linear(model, name).weight is output}
    free = [name for name in linears if name not in read and f"{name}.weight" not in whole]
    if wanted == "all-linear":
        chosen = free
    elif isinstance(wanted, str):
        chosen = [name for name in linears if re.fullmatch(wanted, name)]
    else:
        chosen = [name for name in linears if any(ends_in(name, one) for one in wanted)]
    known = sorted({name.rpartition(".")[2] for name in free})
    entries = [] if isinstance(wanted, str) else wanted
    lost = [one for one in entries if not any(ends_in(name, one) for name in linears)] if strict else []
    if lost or not chosen:
        what = ", ".join(lost) or repr(wanted)
        guess = nearest(lost[0], known) if lost else None
        hint = f" Did you mean {guess}?" if guess else ""
        raise UserError(
            f"model.adapter.targets: no linear layer is called {what}.{hint} There are: {', '.join(known)}."
        )
    if held := sorted(set(chosen) - set(free)):
        text = "trained in full or read by the head as a weight, so it takes no adapter. Leave it out of targets"
        raise UserError(f"model.adapter.targets: {held[0]} is {text}; modules_to_save trains it in full.")
    for option in ("ranks", "alphas") if strict else ():
        for pattern in options[option]:
            if not any(pattern_value({pattern: True}, name, False) for name in chosen):
                raise UserError(f"model.adapter.{option}: no target ends in {pattern!r}. Known: {', '.join(known)}.")
    return chosen


def whole_parameters(model: Any, modules: list[str]) -> list[str]:
    """Parameters of the modules that are trained in full, and of heads that a base has not."""
    named = [name for name, _ in model.named_modules() if name]
    for wanted in modules:
        if not any(ends_in(name, wanted) for name in named):
            known = sorted({name.rpartition(".")[2] for name in named if not name.rpartition(".")[2].isdigit()})
            guess = nearest(wanted, known)
            hint = f" Did you mean {guess}?" if guess else ""
            raise UserError(f"model.adapter.modules_to_save: there is no module {wanted}.{hint} Known: {known}.")
    heads = set(getattr(model, "heads", ())) & {*NEW}
    found = []
    for name, _ in model.named_parameters():
        parents = name.split(".")[:-1]
        modules_around = [".".join(parents[: end + 1]) for end in range(len(parents))]
        if name in heads or any(ends_in(one, wanted) for one in modules_around for wanted in modules):
            found.append(name)
    return found


def short_names(chosen: list[str], linears: list[str]) -> list[str]:
    """The last parts of the names where they select the very same modules, else the names themselves."""
    last = sorted({name.rpartition(".")[2] for name in chosen})
    return last if sorted(chosen) == sorted(n for n in linears if any(ends_in(n, one) for one in last)) else chosen

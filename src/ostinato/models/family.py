"""What a family of Hugging Face checkpoints shares: reading a config.json, writing one, and where a weight lies.

A family is one file of `families/`, named like its `model_type`. What it writes is read again and compared, so that a
config.json is never given to a model that computes something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ostinato.core.errors import UserError
from ostinato.core.registry import FAMILIES, MODELS
from ostinato.models.blocks import Shape

Options = dict[str, Any]
FREE = ("attention", "dropout", "init_std", "output", "family", "max_positions")  # change nothing of what is computed
ACTIVATIONS = {"silu": "swiglu", "swish": "swiglu", "gelu": "geglu", "gelu_pytorch_tanh": "geglu_tanh"}
STRETCHED = ("dynamic", "yarn", "llama3", "longrope")  # from an original length
LAYERS = {False: "full_attention", True: "sliding_attention"}


class Piece(NamedTuple):
    """Where a parameter of ours lies in a foreign file: rows `start` to `stop` of a tensor's dimension `dim`, None: all
    that is left; `transposed` after it was cut out."""

    name: str
    start: int = 0
    stop: int | None = None
    dim: int = 0
    transposed: bool = False


class Family:
    """The parts that families change. `architecture` is the class of transformers; `prefix` is what some files leave
    out in front of names; `ignored` are tensors of old files that hold nothing."""

    architecture: str
    model = "transformer"
    prefix: str = "model."
    ignored: tuple[str, ...] = (".rotary_emb.inv_freq",)
    spellings: tuple[tuple[str, str], ...] = ()  # how names begin, and how they began in files of other years
    written_as = ""  # the family of its exports, where that is another
    bias = ""  # the key that says whether projections have biases
    head_dim = True  # whether the class has this field; without it the heads' widths add up to the model's
    fixed: Options = {}  # what every model of the family has

    @classmethod
    def options(cls, config: Mapping[str, Any]) -> Options:
        """Options of our model; raises UserError for a field that is missing or a value that our model has not."""
        heads = required(config, "num_attention_heads")
        found = {
            "width": required(config, "hidden_size"),
            "layers": required(config, "num_hidden_layers"),
            "heads": heads,
            "kv_heads": config.get("num_key_value_heads") or heads,
            "head_width": config.get("head_dim"),
            "mlp_width": required(config, "intermediate_size"),
            "mlp": activation(config),
            "norm_eps": config.get("rms_norm_eps", 1e-6),
            "tied_embeddings": config.get("tie_word_embeddings", False),
            "max_positions": config.get("max_position_embeddings", 2048),
            **cls.fixed,
        }
        if cls.bias:
            found["qkv_bias"] = found["output_bias"] = bool(config.get(cls.bias, False))
        return found | read_rope(config, found["max_positions"])

    @classmethod
    def config(cls, options: Mapping[str, Any], shape: Shape, vocab_size: int, max_positions: int) -> Options | None:
        """config.json for transformers; None where the options are none of this family."""
        if not cls.head_dim and shape.head_width * shape.heads != shape.width:
            return None
        if options["rope_scaling"] == "dynamic":  # there it is the model's length that the angles grow from
            max_positions = options["rope_original_length"] or max_positions
        names = {kind: name for name, kind in reversed(ACTIVATIONS.items())}
        config = {
            "vocab_size": vocab_size,
            "hidden_size": shape.width,
            "intermediate_size": shape.mlp_width,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_width,
            "hidden_act": names.get(shape.mlp),
            "max_position_embeddings": max_positions,
            "rms_norm_eps": shape.norm_eps,
            "tie_word_embeddings": options["tied_embeddings"],
            **write_rope(options, max_positions),
        }
        if not cls.head_dim:
            del config["head_dim"]
        return config | ({cls.bias: options["qkv_bias"]} if cls.bias else {})

    @classmethod
    def pieces(cls, name: str, shape: Shape) -> Piece:
        """Where the parameter `name` of our model lies; a pure renaming unless a family says otherwise."""
        return Piece(name)


def required(config: Mapping[str, Any], name: str) -> Any:
    """A field that no family has a default for."""
    if config.get(name) is None:
        raise UserError(f"config.json: {name} is missing. Restore it from where the model is from.")
    return config[name]


def refuse(name: str, value: Any, why: str = "our transformer has no such thing") -> UserError:
    """The error for a value that cannot be computed natively."""
    return UserError(
        f"config.json: {name}: {value!r}: {why}. Load it through transformers: "
        "model: {name: hf, config: <its config.json>} or convert the checkpoint."
    )


def activation(config: Mapping[str, Any]) -> str:
    name = config.get("hidden_activation") or config.get("hidden_act") or "silu"
    if name not in ACTIVATIONS:
        raise refuse("hidden_act", name)
    return ACTIVATIONS[name]


def read_rope(config: Mapping[str, Any], max_positions: int, kind: str = "") -> Options:
    """The angles, in the spellings of several years; `kind` of layers where each has its own."""
    rope = config.get("rope_parameters") or {**(config.get("rope_scaling") or {})}
    rope = rope.get(kind, rope) if kind else rope
    type_ = rope.get("rope_type", rope.get("type", "default"))
    found: Options = {"rope_base": float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)}
    fraction = rope.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    if fraction not in (None, 1.0):
        found["rope_fraction"] = fraction
    original = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    if type_ in ("default", "none", None):
        return found
    if type_ == "linear":
        return found | {"rope_scaling": "linear", "rope_factor": rope["factor"]}
    if type_ == "dynamic":
        factor = rope["factor"]
        stretched = {"rope_original_length": max_positions, "max_positions": int(max_positions * factor)}
        return found | {"rope_scaling": "dynamic", "rope_factor": factor, **stretched}
    if type_ not in ("llama3", "yarn", "longrope", "su") or rope.get("mscale") or rope.get("truncate") is False:
        raise refuse("rope_parameters", dict(rope))
    original = original or max_positions
    found |= {"rope_scaling": "longrope" if type_ == "su" else type_, "rope_original_length": original}
    found["rope_factor"] = rope.get("factor") or max_positions / original
    if type_ == "llama3":
        found["rope_low_frequency_factor"] = rope["low_freq_factor"]
        found["rope_high_frequency_factor"] = rope["high_freq_factor"]
        return found
    if rope.get("attention_factor") is not None:
        found["rope_attention_factor"] = rope["attention_factor"]
    if type_ == "yarn":
        return found | {"rope_beta_fast": rope.get("beta_fast") or 32.0, "rope_beta_slow": rope.get("beta_slow") or 1.0}
    return found | {f"rope_{which}_factors": list(rope[f"{which}_factor"]) for which in ("short", "long")}


def write_rope(options: Mapping[str, Any], max_positions: int) -> Options:
    """The same, as transformers reads them today, and as older ones did."""
    kind, original = options["rope_scaling"], options["rope_original_length"] or max_positions
    rope: Options = {"rope_type": "default", "rope_theta": options["rope_base"]}
    if options["rope_fraction"] != 1.0:
        rope["partial_rotary_factor"] = options["rope_fraction"]
    if kind != "none":
        rope |= {"rope_type": kind, "factor": options["rope_factor"]}
    if kind in ("llama3", "yarn", "longrope"):
        rope["original_max_position_embeddings"] = original
    if kind == "llama3":
        rope["low_freq_factor"] = options["rope_low_frequency_factor"]
        rope["high_freq_factor"] = options["rope_high_frequency_factor"]
    if kind in ("yarn", "longrope") and options["rope_attention_factor"] is not None:
        rope["attention_factor"] = options["rope_attention_factor"]
    if kind == "yarn":
        rope |= {"beta_fast": options["rope_beta_fast"], "beta_slow": options["rope_beta_slow"]}
    if kind == "longrope":
        rope |= {f"{which}_factor": list(options[f"rope_{which}_factors"] or ()) for which in ("short", "long")}
    return {"rope_parameters": rope, "rope_theta": options["rope_base"]}


def read_windows(config: Mapping[str, Any], every: int | None = None) -> Options:
    """The window and the layers that have it: by `layer_types`, else all but each `every`-th."""
    window, layers = config.get("sliding_window"), required(config, "num_hidden_layers")
    types = config.get("layer_types")
    if types is None:
        types = [LAYERS[not every or (number + 1) % every > 0] for number in range(layers)]
    if unknown := set(types) - set(LAYERS.values()):
        raise refuse("layer_types", sorted(unknown)[0])
    chosen = [number for number, kind in enumerate(types) if kind == LAYERS[True]]
    if window is None or not chosen:
        return {}
    return {"window": window} | ({} if len(chosen) == layers else {"window_layers": chosen})


def layer_types(shape: Shape) -> list[str]:
    """`full_attention` or `sliding_attention` for each layer."""
    return [LAYERS[layer in shape.window_layers] for layer in range(shape.layers)]


def complete(options: Mapping[str, Any]) -> Options:
    """All that decides what a model computes, defaults filled in, in one spelling."""
    found = {**MODELS.get("transformer").__init__.__kwdefaults__, **options}
    layers, heads = found["layers"], found["heads"]
    found["kv_heads"] = found["kv_heads"] or heads
    found["head_width"] = found["head_width"] or found["width"] // heads
    found["attention_scale"] = found["attention_scale"] or found["head_width"] ** -0.5
    windows = found["window_layers"]
    found["window_layers"] = sorted(range(layers if found["window"] else 0) if windows is None else windows)
    if found["rope_scaling"] not in STRETCHED:
        found["rope_original_length"] = None
    return {name: value for name, value in found.items() if name not in FREE}


def hf_config(options: Mapping[str, Any], shape: Shape, vocab_size: int, max_positions: int) -> Options | None:
    """config.json of the family that the options name, else of the first that computes just this; None: no family."""
    wanted = {**options, "mlp_width": shape.mlp_width}
    if options["rope_scaling"] in STRETCHED:
        wanted["rope_original_length"] = options["rope_original_length"] or max_positions
    for name in [options["family"]] if options["family"] else FAMILIES.names():
        family = FAMILIES.get(name)
        config = family.config(options, shape, vocab_size, max_positions)
        if config is None:
            continue
        head = {"architectures": [family.architecture], "model_type": name, "dtype": "float32"}
        try:
            read = family.options({**head, **config})
        except UserError:
            continue
        if complete(read) == complete(wanted):
            return {**head, **config}
    return None

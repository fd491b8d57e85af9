"""Adapters against peft on transformers' own classes, both ways; merging; what is trained; what is refused."""

import copy
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ostinato.core.config import Component
from ostinato.core.errors import UserError
from ostinato.core.inputs import ModelInputs
from ostinato.data.tokenizer_kinds import byte
from ostinato.generation.generator import Generator
from ostinato.generation.sampler import SamplingParams
from ostinato.models.decoding import CachedDecoding
from ostinato.models.fused_decoding import FusedDecoding
from ostinato.models.lora import AdaptedLinear, LoRALinear, lora, merged_state
from ostinato.models.quantized import is_quantized, product
from ostinato.training.initialise import build_model

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

SHAPE: dict[str, Any] = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "mlp_width": 48, "init_std": 0.1}
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "both": {"dora": True, "rslora": True},
    "patterns": {"targets": ["q_proj", "down_proj"], "ranks": {"layers.1.*.q_proj": 3}, "alphas": {"down_proj": 5.0}},
    "regex": {"targets": r"model\.layers\.1\..*_proj", "dora": True},
    "names": {"targets": ["layers.0.mlp.up_proj", "v_proj"]},
    "saved": {"targets": ["q_proj"], "modules_to_save": ["embed_tokens", "layers.1.mlp"]},
    "head": {"targets": ["q_proj"], "modules_to_save": ["lm_head"]},
}


def made(**options: Any) -> Any:
    torch.set_num_threads(1)
    return build_model(Component("transformer", {**SHAPE, **options}), ModelInputs(61, 40), 0, torch.device("cpu"))


def tokens(rows: int = 3, length: int = 24) -> Tensor:
    return torch.randint(0, 61, (rows, length), generator=torch.Generator().manual_seed(1))


def moved(model: nn.Module, size: float = 0.1) -> Any:
    """With trained weights that are no longer where they began."""
    draw = torch.Generator().manual_seed(2)
    for one in model.parameters():
        if one.requires_grad:
            one.data += size * torch.randn(one.shape, generator=draw)
    return model


def theirs(model: Any) -> Any:
    """transformers' model with the weights of ours."""
    config = transformers.AutoConfig.for_model(**model.hf_config())
    found = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    found.load_state_dict(model.state_dict(), strict=False)
    found.tie_weights()
    return found


def save(model: Any, folder: Path) -> Path:
    """The adapter alone, as a checkpoint holds it."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(model.adapter.config(model)))
    stored = {name: tensor.detach().clone() for name, tensor in model.adapter.stored(model).items()}
    save_file(stored, folder / "adapter_model.safetensors")
    return folder


def gradients(model: Any, logits: Tensor) -> dict[str, Tensor]:
    """By our names, of a loss of the logits."""
    model.zero_grad()
    (logits.float() ** 2).sum().backward()
    named = {n.removeprefix("base_model.model."): p.grad for n, p in model.named_parameters() if p.grad is not None}
    words = r"modules_to_save\.default\.|(?<=vector)\.default\.weight|\.default"
    return {re.sub(words, "", name): gradient for name, gradient in named.items()}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_peft_loads_what_is_saved_here_with_equal_logits_and_gradients(tmp_path: Path, kind: str, tied: bool) -> None:
    if tied and kind == "head":
        pytest.skip("no head of its own")
    base = made(tied_embeddings=tied, qkv_bias=kind == "dora")
    own = moved(lora(copy.deepcopy(base), rank=4, alpha=6.0, **KINDS[kind]))
    folder = save(own.eval(), tmp_path / "adapter")
    other = peft.PeftModel.from_pretrained(theirs(base), folder, is_trainable=True).eval()
    ours, wanted = own(tokens()), other(input_ids=tokens()).logits
    assert not torch.allclose(ours, base.eval()(tokens()), atol=1e-2)
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-5)
    mine, found = gradients(own, ours), gradients(other, wanted)
    assert mine.keys() == found.keys()
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, found[name], rtol=1e-4, atol=1e-4 * float(found[name].abs().max()))


@pytest.mark.parametrize(
    "options",
    [{}, {"use_rslora": True}, {"use_dora": True}, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"k_proj": 9}},
     {"target_modules": r".*\.(q|up)_proj"}, {"target_modules": "all-linear"},
     {"modules_to_save": ["lm_head"], "target_modules": ["v_proj"]}],
)  # fmt: skip
def test_what_peft_saves_loads_here_and_back(tmp_path: Path, options: dict[str, Any]) -> None:
    base = made()
    given = {"target_modules": ["q_proj", "k_proj", "down_proj"], "r": 4, "lora_alpha": 6, **options}
    config = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **given)
    torch.manual_seed(0)
    other = moved(peft.get_peft_model(theirs(base), config)).eval()
    other.save_pretrained(tmp_path / "peft")
    own = lora(copy.deepcopy(base), path=tmp_path / "peft").eval()
    with torch.no_grad():
        torch.testing.assert_close(own(tokens()), other(input_ids=tokens()).logits, rtol=0, atol=1e-5)
    again = save(own, tmp_path / "again")
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (tmp_path / "peft", again))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["lora", "dora", "saved"])
def test_merged_models_have_the_same_outputs_in_memory_and_from_a_file(tmp_path: Path, kind: str, tied: bool) -> None:
    own = moved(lora(made(tied_embeddings=tied), rank=4, **KINDS[kind])).eval()
    state = merged_state(own)
    assert state.keys() == made(tied_embeddings=tied).state_dict().keys()
    save_file({name: tensor.clone() for name, tensor in state.items()}, tmp_path / "merged.safetensors")
    plain = made(tied_embeddings=tied).eval()
    plain.load_state_dict(load_file(tmp_path / "merged.safetensors"))
    transformed = theirs(plain)
    with torch.no_grad():
        expected = own(tokens())
        own.adapter.merge(own)
        assert not any(isinstance(module, LoRALinear) for module in own.modules()) and not hasattr(own, "adapter")
        for model in (own, plain):
            torch.testing.assert_close(model(tokens()), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(transformed(tokens()).logits, expected, rtol=0, atol=1e-5)


def test_dropout_is_on_the_way_into_a_alone_and_off_in_evaluation() -> None:
    layer = LoRALinear(nn.Linear(8, 6), 2, 2.0, 0.5, dora=False)
    moved(layer.lora_A), moved(layer.lora_B)
    x = torch.randn(5, 8)
    torch.manual_seed(3)
    found = layer(x)
    torch.manual_seed(3)
    dropped = nn.functional.dropout(x, 0.5)
    expected = x @ layer.weight.T + layer.bias + 2.0 * (dropped @ layer.lora_A.weight.T @ layer.lora_B.weight.T)
    torch.testing.assert_close(found, expected)
    layer.eval()
    torch.testing.assert_close(layer(x), x @ layer.merged_weight().T + layer.bias)


@pytest.mark.parametrize("dora", [False, True])
def test_a_fresh_adapter_changes_no_bit_and_is_a_function_of_seed_and_names(dora: bool) -> None:
    base = made().eval()
    one, other = (lora(copy.deepcopy(base), seed, rank=4, dora=dora) for seed in (5, 6))
    few = lora(copy.deepcopy(base), 5, rank=4, dora=dora, targets=["o_proj"])
    x = torch.randn(7, 32)
    for name in ("q_proj", "o_proj"):
        before, after = (getattr(model.model.layers[1].self_attn, name) for model in (base, one))
        assert torch.equal(before(x), after(x))
    first, second, third = (model.model.layers[1].self_attn.o_proj.lora_A.weight for model in (one, other, few))
    assert torch.equal(first, third) and not torch.equal(first, second)
    bound = 32**-0.5
    assert first.abs().max() <= bound and abs(float(first.detach().std()) - bound / 3**0.5) < 0.03


def test_only_the_adapter_is_trained_and_checkpointing_keeps_its_gradients() -> None:
    labels = tokens().roll(-1, 1)
    found = []
    for on in (False, True):
        model = moved(lora(made(), rank=4), 0.01).train()
        model.set_checkpointing(on)
        (-model(tokens(), labels=labels).log_probs.sum()).backward()
        graded = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
        assert all(".lora_" in name for name in graded) and len(graded) == 2 * 7 * 2
        assert all(gradient.abs().max() > 0 for gradient in graded.values())
        found.append(graded)
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name]), name


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_generation_decodes_merged_weights_and_says_what_the_modules_say(kind: str) -> None:
    tokenizer = byte()
    shape = Component("transformer", {**SHAPE, "init_std": 0.3})
    model = build_model(shape, ModelInputs(tokenizer.vocab_size, 64), 0, torch.device("cpu"))
    moved(lora(model, rank=4, **KINDS[kind]), 0.3).eval()
    assert isinstance(model.decoding(2, 40), FusedDecoding)  # type: ignore[operator]
    params, prompts = SamplingParams(max_new_tokens=12, temperature=0.0), [[5, 6, 7], [9, 8]]
    fused = Generator(tokenizer).generate(model, prompts, params)
    model.model.layers[0].mlp.register_forward_hook(lambda *_: None)  # type: ignore[union-attr,index]
    apart = Generator(tokenizer).generate(model, prompts, params)
    assert [one.response_ids for one in fused] == [one.response_ids for one in apart]
    for sample, prompt in zip(fused, prompts, strict=True):
        ids = torch.tensor([[*prompt, *sample.response_ids]])
        with torch.no_grad():
            greedy = model(ids)[0, len(prompt) - 1 : -1].argmax(-1)
        assert greedy.tolist() == sample.response_ids


def test_a_base_in_bf16_computes_and_merges() -> None:
    model = moved(lora(made(), rank=4, base_dtype="bfloat16"))
    kinds = {one.dtype for name, one in model.named_parameters() if ".lora_" not in name}
    assert kinds == {torch.bfloat16}
    assert {one.dtype for name, one in model.named_parameters() if ".lora_" in name} == {torch.float32}
    for context in (torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False)):
        with context:
            model.zero_grad()
            loss = -model(tokens(), labels=tokens()).log_probs.sum()
        loss.backward()
        assert all(one.grad is not None for one in model.parameters() if one.requires_grad)
    assert merged_state(model)["model.layers.0.mlp.up_proj.weight"].dtype == torch.bfloat16


@pytest.mark.parametrize("dora", [False, True])
def test_a_base_in_four_bits_is_its_unpacked_self(dora: bool) -> None:
    pytest.importorskip("torchao")
    shape = {"width": 64, "mlp_width": 128, "qkv_bias": True}
    model = moved(lora(made(**shape), rank=4, base_dtype="nf4", dora=dora)).eval()
    layer = model.model.layers[0].self_attn.q_proj
    assert type(layer) is AdaptedLinear and is_quantized(layer.weight)
    plain = copy.deepcopy(merged_state(model))
    twin = made(**shape).to(torch.bfloat16).eval()
    twin.load_state_dict(plain)
    with torch.autocast("cpu", torch.bfloat16):
        found, wanted = (-one(tokens(), labels=tokens()).log_probs.sum() for one in (model, twin))
    assert float(found) == pytest.approx(float(wanted), rel=0.02)
    found.backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in model.parameters() if one.requires_grad)
    x = torch.randn(3, 64, dtype=torch.bfloat16, requires_grad=True)
    product(x, layer.weight).sum().backward()
    unpacked = layer.weight.to(torch.float32)
    torch.testing.assert_close(x.grad.float(), unpacked.sum(0).expand(3, -1), rtol=0.02, atol=0.02)  # type: ignore[union-attr]
    assert type(model.decoding(2, 40)) is CachedDecoding


def test_four_bits_want_torchao(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(UserError, match="pip install torchao"):
        lora(made(), base_dtype="nf4")


def test_any_tree_of_linear_layers_can_be_adapted() -> None:
    tree = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)))
    model: Any = moved(lora(tree, rank=2, targets=["2.0"]))
    assert [name for name, one in model.named_parameters() if one.requires_grad] == [
        "2.0.lora_A.weight",
        "2.0.lora_B.weight",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [({"targets": ["q_prj"]}, "no linear layer is called q_prj. Did you mean q_proj? There are: down_proj, gate_proj"),
     ({"targets": "q_proj"}, "no linear layer is called 'q_proj'. There are"),
     ({"targets": []}, "no linear layer is called"),
     ({"targets": ["lm_head"]}, "lm_head is trained in full or read by the head as a weight"),
     ({"targets": ["q_proj"], "modules_to_save": ["self_attn"]}, "self_attn.q_proj is trained in full"),
     ({"targets": "(q"}, "'(q' is no regular expression"),
     ({"ranks": {"w_proj": 3}}, "no target ends in 'w_proj'"),
     ({"alphas": {"lm_head": 3.0}}, "no target ends in 'lm_head'"),
     ({"rank": 0}, "a rank of 0"), ({"ranks": {"q_proj": -1}}, "a rank of -1"),
     ({"dropout": 1.0}, "dropout: 1.0"),
     ({"modules_to_save": ["embed_token"]}, "there is no module embed_token. Did you mean embed_tokens?"),
     ({"path": Path("nowhere")}, "nowhere: no adapter in peft's format here")],
)  # fmt: skip
def test_mistakes_are_named(options: dict[str, Any], said: str) -> None:
    model = made()
    with pytest.raises(UserError, match=re.escape(said)):
        lora(model, **options)
    assert all(one.requires_grad for one in model.parameters())


GOOD = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}


@pytest.mark.parametrize(
    ("written", "said"),
    [("{", "no configuration of an adapter"), ("[]", "no configuration of an adapter"),
     (json.dumps({**GOOD, "peft_type": "IA3"}), "peft_type IA3"),
     (json.dumps({**GOOD, "bias": "all"}), "bias: 'all' is not known here"),
     (json.dumps({**GOOD, "init_lora_weights": "pissa"}), "init_lora_weights: 'pissa'"),
     (json.dumps({"peft_type": "LORA", "r": 4}), "lora_alpha"),
     (json.dumps(GOOD), "adapter_model.safetensors: cannot be read")],
)  # fmt: skip
def test_bad_adapter_folders_are_refused(tmp_path: Path, written: str, said: str) -> None:
    (tmp_path / "adapter_config.json").write_text(written)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(UserError, match=re.escape(said)):
        lora(made(), path=tmp_path)


def test_tensors_of_another_shape_or_name_are_refused(tmp_path: Path) -> None:
    folder = save(lora(made(), rank=4, targets=["q_proj"]), tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 5}))
    with pytest.raises(UserError, match=r"lora_A.weight has shape \[4, 32\], the model wants \[5, 32\]"):
        lora(made(), path=folder)
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["q_proj", "k_proj"]}))
    with pytest.raises(UserError, match="in one of file and model only: base_model"):
        lora(made(), path=folder)


def test_a_tied_embedding_that_peft_trained_apart_from_the_head_is_refused(tmp_path: Path) -> None:
    base = made(tied_embeddings=True)
    for ensured in (True, False):
        saved = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": ensured}
        config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], **saved)
        other = moved(peft.get_peft_model(theirs(base), config)).eval()
        other.save_pretrained(tmp_path / str(ensured))
        if ensured:
            own = lora(copy.deepcopy(base), path=tmp_path / "True").eval()
            torch.testing.assert_close(own(tokens()), other(input_ids=tokens()).logits, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="here the two are one tensor"):
        lora(copy.deepcopy(base), path=tmp_path / "False")


def test_an_adapter_is_no_model_and_comes_once() -> None:
    with pytest.raises(UserError, match="no model of its own"):
        lora(ModelInputs(3, 4))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="has an adapter already"):
        lora(lora(made()))

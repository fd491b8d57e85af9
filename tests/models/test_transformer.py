"""The native transformer against transformers' own classes on random weights, and what documents may see."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ostinato.core.config import Component
from ostinato.core.inputs import ModelInputs
from ostinato.data.batches import IGNORE
from ostinato.training.initialise import build_model

transformers = pytest.importorskip("transformers")
LLAMA: dict[str, Any] = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "mlp_width": 48}
SCALED = {
    "rope_scaling": "llama3", "rope_factor": 8.0, "rope_original_length": 16,
    "rope_low_frequency_factor": 1.0, "rope_high_frequency_factor": 4.0,
}  # fmt: skip


def made(**options: Any) -> Any:
    torch.set_num_threads(1)
    return build_model(Component("transformer", options), ModelInputs(61, 40), 0, torch.device("cpu"))


def tokens(rows: int = 3, length: int = 24) -> Tensor:
    return torch.randint(0, 61, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "extra",
    [{}, {"tied_embeddings": True}, {"rope_base": 500000.0, **SCALED}, {"rope_scaling": "linear", "rope_factor": 2.0},
     {"rope_scaling": "yarn", "rope_factor": 4.0, "rope_original_length": 16},
     {"rope_scaling": "dynamic", "rope_factor": 2.0, "rope_original_length": 16},
     {"qkv_bias": True, "output_bias": True, "mlp_bias": True}, {"window": 7},
     {"qkv_bias": True}, {"qk_norm": True}, {"qk_norm": True, "head_width": 16}],
)  # fmt: skip
def test_logits_equal_transformers_llama_mistral_and_qwen(extra: dict[str, Any]) -> None:
    ours = made(**LLAMA, **extra, init_std=0.1)
    config = ours.hf_config()
    known = transformers.AutoConfig.for_model(**config)
    theirs = transformers.AutoModelForCausalLM.from_config(known, attn_implementation="eager").eval()
    missing = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) <= {"lm_head.weight"}
    theirs.tie_weights()
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(tokens()), theirs(tokens()).logits, rtol=0, atol=1e-5)


def test_logits_equal_transformers_gpt2() -> None:
    ours = made(
        width=32, layers=2, heads=4, mlp="gelu_tanh", norm="layer", positions="learned", tied_embeddings=True,
        qkv_bias=True, output_bias=True, mlp_bias=True, norm_bias=True, init_std=0.1,
    )  # fmt: skip
    config = transformers.GPT2Config(vocab_size=61, n_positions=40, n_embd=32, n_layer=2, n_head=4)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    own, wanted = ours.state_dict(), {}
    wanted["transformer.wte.weight"] = own["model.embed_tokens.weight"]
    wanted["transformer.wpe.weight"] = own["model.embed_positions.weight"]
    for kind in ("weight", "bias"):
        wanted[f"transformer.ln_f.{kind}"] = own[f"model.norm.{kind}"]
        for layer in range(2):
            a, b = f"model.layers.{layer}.", f"transformer.h.{layer}."
            parts = [own[f"{a}self_attn.{p}_proj.{kind}"] for p in "qkv"]
            pairs = {
                "attn.c_attn": torch.cat(parts), "attn.c_proj": own[f"{a}self_attn.o_proj.{kind}"],
                "mlp.c_fc": own[f"{a}mlp.up_proj.{kind}"], "mlp.c_proj": own[f"{a}mlp.down_proj.{kind}"],
            }  # fmt: skip
            wanted |= {f"{b}{n}.{kind}": t.T if kind == "weight" else t for n, t in pairs.items()}
            wanted[f"{b}ln_1.{kind}"] = own[f"{a}input_layernorm.{kind}"]
            wanted[f"{b}ln_2.{kind}"] = own[f"{a}post_attention_layernorm.{kind}"]
    assert not theirs.load_state_dict(wanted, strict=False).unexpected_keys
    theirs.tie_weights()
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(tokens()), theirs(tokens()).logits, rtol=0, atol=1e-5)


def packed() -> dict[str, Tensor]:
    """Two rows of three documents, padding behind."""
    documents = torch.tensor([[0] * 9 + [1] * 4 + [2] * 8 + [-1] * 3, [0] * 2 + [1] * 20 + [-1] * 2])
    positions = torch.cat([torch.arange(n) for n in (9, 4, 8, 3, 2, 20, 2)]).view(2, 24)
    labels = tokens(2).roll(-1, 1).masked_fill(documents != documents.roll(-1, 1), IGNORE)
    return {"positions": positions, "documents": documents, "labels": labels.masked_fill(documents < 0, IGNORE)}


SHAPES = {"plain": {}, "window": {"window": 5}, "qk_norm": {"qk_norm": True}, "layer": {"norm": "layer", "mlp": "gelu"}}


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("attention", ["sdpa", "documents"])
def test_a_document_does_not_see_another(shape: str, attention: str) -> None:
    model = made(**LLAMA, **SHAPES[shape], attention=attention)
    rows, other = tokens(2), tokens(2)
    other[0, :9] = (other[0, :9] + 7) % 61  # another first document in the first row
    scores, changed = (model(t, **packed()).log_probs for t in (rows, other))
    first = 8  # its trained labels
    assert not torch.equal(scores[:first], changed[:first])
    assert torch.equal(scores[first:], changed[first:])


@pytest.mark.parametrize("shape", list(SHAPES))
def test_packed_scores_equal_each_document_alone_by_every_kernel(shape: str) -> None:
    pieces, rows, batch = [], tokens(2), packed()
    for row in range(2):
        for number in range(3):
            where = batch["documents"][row] == number
            if where.any():
                model = made(**LLAMA, **SHAPES[shape])
                labels = batch["labels"][row][where][None]
                pieces.append(model(rows[row][where][None], labels=labels).log_probs)
    alone = torch.cat(pieces)
    for attention in ("sdpa", "documents"):
        scores = made(**LLAMA, **SHAPES[shape], attention=attention)(rows, **batch).log_probs
        torch.testing.assert_close(scores, alone, rtol=0, atol=2e-6)


def test_weights_do_not_depend_on_order_and_differ_by_name_and_seed() -> None:
    first, again = made(**LLAMA), made(**LLAMA)
    for (name, a), (_, b) in zip(first.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    layers = [first.model.layers[i].self_attn.q_proj.weight for i in range(2)]
    assert not torch.equal(*layers)
    deeper = made(**{**LLAMA, "layers": 3})  # the same names get the same values
    assert torch.equal(deeper.model.layers[1].self_attn.q_proj.weight, layers[1])
    projections = [p for n, p in made(**{**LLAMA, "width": 256}).named_parameters() if "o_proj" in n]
    assert abs(projections[0].std() - 0.02 / 2) < 0.0005  # divided by sqrt(2 x 2 layers)


def test_softcaps_and_temperature_come_in_the_stated_order() -> None:
    model = made(**LLAMA, logit_softcap=3.0, logit_scale=2.0, init_std=0.3)
    bare = copy.deepcopy(model)
    bare.logit_softcap, bare.logit_scale = None, 1.0
    wanted = 3.0 * torch.tanh(2.0 * bare(tokens()) / 3.0) / 0.7
    torch.testing.assert_close(model(tokens(), temperature=0.7), wanted)
    labels = tokens().roll(-1, 1)
    scores = model(tokens(), labels=labels, temperature=0.7).log_probs
    torch.testing.assert_close(scores, wanted.log_softmax(-1).flatten(0, 1).gather(1, labels.view(-1, 1))[:, 0])


def test_a_checkpoints_model_folder_loads_with_from_pretrained(tmp_path: Path) -> None:
    from ostinato.training.build import build, open_strategy
    from ostinato.training.checkpoint_folder import Checkpoints, Retention
    from ostinato.training.saver import Saver
    from tests.training.tiny import tiny_config

    config = tiny_config(tmp_path, "pretrain", "training.total_steps=1")
    built = build(config, open_strategy(config))
    folder = Checkpoints(tmp_path / "checkpoints", Retention(), lambda *_, **__: None)
    built.trainer.parts.saver = Saver(folder, {}, built.model_files)
    built.trainer.train()
    built.trainer.save_checkpoint()
    saved = tmp_path / "checkpoints" / "step_00000001" / "model"
    theirs = transformers.AutoModelForCausalLM.from_pretrained(saved).eval()
    words = transformers.AutoTokenizer.from_pretrained(saved)("hello", return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(theirs(words).logits, built.trainer.model(words), rtol=0, atol=1e-5)

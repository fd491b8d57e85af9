"""Models of transformers as ours: scores, documents and decoding against transformers itself, and what is refused."""

import copy
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from ostinato.core.config import Component
from ostinato.core.errors import UserError
from ostinato.core.inputs import ModelInputs
from ostinato.data.batches import IGNORE
from ostinato.generation.decoding import Rereading
from ostinato.models.transformer import Transformer
from ostinato.training.initialise import build_model

transformers = pytest.importorskip("transformers")
V = 61
COMMON: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "vocab_size": V, "initializer_range": 0.2, "num_key_value_heads": 2,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
GPT: dict[str, Any] = {
    "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": V, "initializer_range": 0.2,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
SHORT = {"head_dim": 8, "sliding_window": 5}
PACKED: dict[str, dict[str, Any]] = {  # documents of a row are told apart by positions, tokens go on from a cache
    "gpt_neox": COMMON,
    "stablelm": COMMON,
    "phi": COMMON,  # its head has a bias
    "cohere": {**COMMON, "logit_scale": 0.3},
    "cohere2": {**COMMON, "logit_scale": 0.3, "sliding_window": 5, "num_hidden_layers": 4},
    "granite": {**COMMON, "logits_scaling": 4.0, "tie_word_embeddings": True},
    "gemma2": {**COMMON, **SHORT, "final_logit_softcapping": 3.0},
    "mistral": {**COMMON, **SHORT},
    "gptj": {**GPT, "rotary_dim": 4},
    "gpt2": GPT,
    "mixtral": {**COMMON, "num_local_experts": 4},
}
APART: dict[str, dict[str, Any]] = {  # each document is computed in a row of its own, and the text is read anew
    "falcon": {**COMMON, "alibi": False},
    "bloom": {**COMMON, "n_layer": 2, "n_head": 4},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "vocab_size": V, "expansion_ratio": 2},
    "opt": {**COMMON, "ffn_dim": 48, "word_embed_proj_dim": 16, "init_std": 0.2},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "vocab_size": V, "initializer_range": 0.2},
}
ALL = {**PACKED, **APART}


def node(kind: str, **options: Any) -> Component:
    return Component("hf", {"config": {"model_type": kind, **ALL.get(kind, COMMON)}, **options})


def made(kind: str, seed: int = 0, **options: Any) -> Any:
    torch.set_num_threads(1)
    return build_model(node(kind, **options), ModelInputs(V, 40), seed, torch.device("cpu")).eval()


def tokens(rows: int = 2, length: int = 24) -> Tensor:
    return torch.randint(0, V, (rows, length), generator=torch.Generator().manual_seed(1))


def labels_of(rows: Tensor, documents: Tensor) -> Tensor:
    """The next token, where it is of the same document."""
    following = rows.roll(-1, 1).masked_fill(documents != documents.roll(-1, 1), IGNORE)
    following[:, -1] = IGNORE
    return following.masked_fill(documents < 0, IGNORE)


def theirs(model: Any, kind: str) -> Any:
    """transformers' own model with the same weights, which fit by name."""
    config = transformers.AutoConfig.for_model(**{"model_type": kind, **ALL[kind]})
    other = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    missing = other.load_state_dict(model.state_dict(), strict=False)
    assert not missing.unexpected_keys and not missing.missing_keys
    return other


@pytest.mark.parametrize("kind", ALL)
def test_scores_are_those_of_transformers(kind: str) -> None:
    model, rows = made(kind), tokens()
    labels = labels_of(rows, torch.zeros_like(rows))
    with torch.no_grad():
        wanted = (theirs(model, kind)(input_ids=rows).logits / 0.7).log_softmax(-1)
        trained = labels != IGNORE
        found = model(rows, labels=labels, temperature=0.7, want={"entropy", "top1"})
        torch.testing.assert_close(model(rows, temperature=0.7).log_softmax(-1), wanted, rtol=0, atol=1e-5)
        torch.testing.assert_close(model(rows, last_only=True, temperature=0.7).log_softmax(-1), wanted[:, -1:])
    own = wanted[trained].gather(1, labels[trained][:, None])[:, 0]
    torch.testing.assert_close(found.log_probs, own, rtol=0, atol=1e-5)
    entropy = -(wanted.exp() * wanted).sum(-1)[trained]
    torch.testing.assert_close(found.entropy, entropy, rtol=0, atol=1e-5)
    assert torch.equal(found.top1, wanted.argmax(-1)[trained] == labels[trained])


@pytest.mark.parametrize("kind", ["gpt_neox", "phi", "granite", "gemma2", "opt"])
def test_gradients_are_those_of_transformers(kind: str) -> None:
    model, rows = made(kind), tokens()
    other = theirs(model, kind)
    labels = labels_of(rows, torch.zeros_like(rows))
    model(rows, labels=labels).log_probs.sum().neg().backward()
    logits = other(input_ids=rows).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum").backward()
    wanted = {name: one.grad for name, one in other.named_parameters() if one.requires_grad}
    found = {name: one.grad for name, one in model.named_parameters()}
    assert set(found) == set(wanted)
    for name, gradient in wanted.items():
        if name.endswith(("embed_tokens.weight", "embed_in.weight")):
            # transformers does not train the row of its padding token, we do
            assert found[name][0].abs().sum() > 0
            gradient, found[name] = gradient[1:], found[name][1:]
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-4, msg=name)


DOCUMENTS = torch.tensor([[0] * 9 + [1] * 4 + [2] * 8 + [-1] * 3, [-1] * 3 + [0] * 2 + [1] * 19])


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_is_each_document_alone(kind: str, attention: str) -> None:
    """Three documents with padding behind, two with padding before."""
    model, rows = made(kind, attention=attention), tokens()
    labels = labels_of(rows, DOCUMENTS)
    pieces = []
    with torch.no_grad():
        for row in range(2):
            for number in range(3):
                where = DOCUMENTS[row] == number
                if where.any():
                    alone = made(kind)(rows[row][where][None], labels=labels[row][where][None])
                    pieces.append(alone.log_probs)
        assert model.packs is (kind in PACKED) or attention == "eager"
        found = model(rows, documents=DOCUMENTS, labels=labels).log_probs
        torch.testing.assert_close(found, torch.cat(pieces), rtol=0, atol=1e-5)
        rows[0, 2] = (rows[0, 2] + 5) % V  # in the first document: 8 of the trained labels
        changed = model(rows, documents=DOCUMENTS, labels=labels).log_probs
    assert not torch.equal(changed[:8], found[:8])
    torch.testing.assert_close(changed[8:], found[8:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["gpt_neox", "opt", "mamba"])
def test_padding_behind_changes_nothing(kind: str) -> None:
    model, rows = made(kind), tokens(2, 12)
    padded = torch.cat([rows, torch.zeros(2, 7, dtype=torch.int64)], 1)
    labels = labels_of(rows, torch.zeros_like(rows))
    wider = torch.cat([labels, torch.full((2, 7), IGNORE)], 1)
    documents = torch.tensor([[0] * 12 + [-1] * 7] * 2)
    with torch.no_grad():
        wanted = model(rows, labels=labels).log_probs
        for form in (None, documents):
            found = model(padded, documents=form, labels=wider).log_probs
            torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", ALL)
def test_decoding_gives_the_logits_of_the_whole_text(kind: str) -> None:
    model, rows = made(kind), tokens(3)
    decoding: Any = model.decoding(4, 24)
    assert (decoding is not None) is (kind in PACKED)
    if decoding is None:
        decoding = Rereading(model, 4, 24, torch.device("cpu"), exact=True)
    starts = [3, 12, 7]
    with torch.no_grad():
        for slot, start in enumerate(starts):
            ((logits, kept),) = decoding.read([rows[slot, :start]])
            torch.testing.assert_close(logits, model(rows[slot : slot + 1, :start])[0, -1])
            decoding.place(slot, kept)
        decoding.move(2, 3)
        rows = torch.cat([rows, rows[2:]])
        for more in range(10):
            lengths = torch.tensor([*starts, starts[2]]) + more
            logits = decoding.step(rows[torch.arange(4), lengths], lengths.clone(), 24)
            for slot, length in enumerate(lengths.tolist()):
                wanted = model(rows[slot : slot + 1, : length + 1])[0, -1]
                torch.testing.assert_close(logits[slot], wanted, rtol=1e-5, atol=1e-5)


NATIVE: dict[str, dict[str, Any]] = {
    "llama": {}, "qwen3": {"qk_norm": True, "head_width": 8}, "mistral": {"window": 5}, "qwen2": {"qkv_bias": True},
}  # fmt: skip


@pytest.mark.parametrize("kind", NATIVE)
@pytest.mark.parametrize("output", ["tokens", "scalar", "both"])
def test_it_is_the_native_transformer_with_the_same_weights(kind: str, output: str) -> None:
    options = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "mlp_width": 48, "init_std": 0.2, **NATIVE[kind]}
    native: Any = build_model(Component("transformer", options), ModelInputs(V, 40), 0, torch.device("cpu"))
    hf = build_model(
        Component("hf", {"config": native.hf_config(), "output": output}), ModelInputs(V, 40), 3, torch.device("cpu")
    )
    if output != "tokens":
        native = Transformer(ModelInputs(V, 40), **options, output=output)
    native.load_state_dict(hf.state_dict())
    rows, labels = tokens(), labels_of(tokens(), DOCUMENTS)
    trained = (labels.flatten() != IGNORE).nonzero()[:, 0]
    given = {"positions": torch.zeros_like(rows), "documents": DOCUMENTS}
    for row in range(2):
        for number in range(3):
            here = DOCUMENTS[row] == number
            given["positions"][row, here] = torch.arange(int(here.sum()))
    with torch.no_grad():
        if output != "tokens":
            kept = trained if output == "scalar" else None
            for place in ({}, given):
                found, wanted = hf.scalars(rows, **place), native.scalars(rows, **place)
                real = DOCUMENTS >= 0 if place else torch.ones_like(rows, dtype=torch.bool)
                torch.testing.assert_close(found[real], wanted[real], rtol=0, atol=1e-5)
            if kept is not None:
                torch.testing.assert_close(hf(rows, trained=kept), hf.scalars(rows).flatten()[kept])
            return
        found = hf(rows, **given, labels=labels, trained=trained, want={"entropy"})
        wanted = native(rows, **given, labels=labels, trained=trained, want={"entropy"})
        torch.testing.assert_close(found.log_probs, wanted.log_probs, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.entropy, wanted.entropy, rtol=0, atol=1e-5)
        teachers = [one.as_teacher(rows, **given, trained=trained) for one in (native, hf)]
        scores = [
            one(rows, **given, labels=labels, trained=trained, teacher=teacher)
            for one, teacher in ((native, teachers[1]), (hf, teachers[0]))
        ]
        for score in scores:
            torch.testing.assert_close(score.divergence, torch.zeros_like(score.divergence), rtol=0, atol=1e-6)


def test_a_bias_of_the_head_is_part_of_divergences() -> None:
    """Phi as student and teacher, by the formula on whole logits."""
    student, teacher, rows = made("phi"), made("phi", seed=1), tokens()
    with torch.no_grad():
        for one in (student, teacher):
            one.lm_head.bias.normal_(generator=torch.Generator().manual_seed(2))
        teacher.lm_head.bias.neg_()
        labels = labels_of(rows, torch.zeros_like(rows))
        trained = (labels.flatten() != IGNORE).nonzero()[:, 0]
        log_p = teacher(rows).log_softmax(-1).flatten(0, 1)[trained]
        log_s = student(rows).log_softmax(-1).flatten(0, 1)[trained]
        known = teacher.as_teacher(rows, trained=trained, beta=0.0)
        found = student(rows, labels=labels, trained=trained, teacher=known).divergence
    torch.testing.assert_close(found, (log_p.exp() * (log_p - log_s)).sum(-1), rtol=1e-5, atol=1e-5)


def test_a_beginning_of_both_outputs_has_values_beside_its_scores() -> None:
    model, rows = made("phi", output="both"), tokens()
    labels = labels_of(rows, torch.zeros_like(rows))
    with torch.no_grad():
        scores = model(rows, labels=labels, want={"values"})
        torch.testing.assert_close(scores.values, model.scalars(rows)[:, :-1].flatten())
    assert "score.weight" in model.state_dict() and model.hf_config() is None


def test_a_scalar_model_has_no_head_to_train() -> None:
    names = {name for name, _ in made("gpt_neox", output="scalar").named_parameters()}
    assert {"score.weight", "reward_mean", "reward_std"} < names
    assert "embed_out.weight" not in names and "lm_head.weight" not in names


# ---- fresh weights


@pytest.mark.parametrize("kind", ALL)
def test_fresh_weights_depend_on_seed_and_name_alone(kind: str) -> None:
    first = made(kind).state_dict()
    torch.manual_seed(99)
    torch.rand(3)
    state = torch.get_rng_state()
    again = made(kind).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(again[name], weight) for name, weight in first.items())
    other = made(kind, seed=1).state_dict()
    assert any(not torch.equal(other[name], weight) for name, weight in first.items())


@pytest.mark.parametrize("kind", ALL)
def test_fresh_weights_are_as_transformers_draws_them(kind: str) -> None:
    """The same constants, and the same spread of what is random; buffers are the same."""
    model = made(kind)
    config = transformers.AutoConfig.for_model(**{"model_type": kind, **ALL[kind]})
    other = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    wanted = dict(other.named_parameters())
    for name, weight in model.named_parameters():
        if wanted[name].std(correction=0) == 0 or weight.numel() < 100:
            assert (wanted[name].std(correction=0) == 0) == (weight.std(correction=0) == 0), name
            torch.testing.assert_close(weight.mean(), wanted[name].mean(), rtol=0, atol=0.5, msg=name)
        else:
            torch.testing.assert_close(
                weight.std() / wanted[name].std(), torch.tensor(1.0), rtol=0, atol=0.25, msg=name
            )
    buffers = dict(other.named_buffers())
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(buffer, buffers[name], equal_nan=True, msg=name)


def test_recomputed_blocks_give_the_same_gradients() -> None:
    model, rows = made("stablelm").train(), tokens()
    labels = labels_of(rows, DOCUMENTS)

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        model(rows, documents=DOCUMENTS, labels=labels).log_probs.sum().backward()
        return {name: one.grad.clone() for name, one in model.named_parameters()}

    calls: list[int] = []
    model.blocks()[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    model(rows)
    wanted = gradients()
    before = len(calls)
    model.set_checkpointing(True)
    found = gradients()
    assert len(calls) - before == 2  # once more in the backward pass
    assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())
    model.set_checkpointing(False)
    gradients()
    assert len(calls) - before == 3


def test_a_copy_has_weights_of_its_own() -> None:
    model, rows = made("granite"), tokens()
    copied = copy.deepcopy(model)
    with torch.no_grad():
        before = copied(rows)
        for weight in model.parameters():
            weight.mul_(1.1)
        assert torch.equal(copied(rows), before) and not torch.equal(model(rows), before)
        assert copied.causal.lm_head.weight is copied.model.embed_tokens.weight  # still tied


def test_the_config_comes_out_as_it_went_in() -> None:
    config = {"model_type": "gpt_neox", **COMMON, "torch_dtype": "bfloat16", "architectures": ["Other"]}
    model: Any = build_model(Component("hf", {"config": config}), ModelInputs(V, 40), 0, torch.device("cpu"))
    found = model.hf_config()
    assert found["architectures"] == ["GPTNeoXForCausalLM"] and found["dtype"] == "float32"
    assert {**config, **found} == {**found, "torch_dtype": "bfloat16"}
    assert model.config_dict()["config"] == config and model.max_positions == 64 and len(model.blocks()) == 2


@pytest.mark.parametrize(("written", "size"), [({}, 70), ({"vocab_size": 80}, 80), ({"vocab_size": 61}, 70)])
def test_the_vocabulary_is_at_least_the_tokenizers(written: dict[str, int], size: int) -> None:
    config = {"model_type": "gpt_neox", **{k: v for k, v in COMMON.items() if k != "vocab_size"}, **written}
    model: Any = build_model(Component("hf", {"config": config}), ModelInputs(70, 40), 0, torch.device("cpu"))
    assert model.inputs.vocab_size == model.hf_config()["vocab_size"] == size
    assert model(torch.tensor([[69]])).shape == (1, 1, size)


# ---- refusals


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"vocab_size": 9}, "no model_type"),
        ({"model_type": "lama"}, "Did you mean llama"),
        ({"model_type": "gpt_neox", "auto_map": {"AutoModelForCausalLM": "evil.Model"}}, "code of its own"),
        ({"model_type": "gemma3", "text_config": {"auto_map": {"AutoModel": "evil.Model"}}}, "code of its own"),
        ({"model_type": "llama", "quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised"),
        ({"model_type": "t5"}, "encoder"),
        ({"model_type": "bart"}, "encoder"),
        ({"model_type": "vit"}, "no causal language model"),
        ({"model_type": "gpt_neox", "hidden_size": "wide"}, "refuses it"),
        ({"model_type": "nemotron", **COMMON, "hidden_act": "sharp"}, "cannot build it"),
        ({"model_type": "gpt_neox", **COMMON, "architectures": None, "num_attention_heads": 5}, "transformers"),
    ],
)
def test_what_cannot_be_used_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(Component("hf", {"config": config}), ModelInputs(V, 40), 0, torch.device("cpu"))


@pytest.mark.parametrize(("kind", "refused"), [("gpt2", True), ("opt", True), ("gpt_neox", False), ("mamba", False)])
def test_learned_positions_must_reach_over_the_data(kind: str, refused: bool) -> None:
    inputs, cpu = ModelInputs(V, 65), torch.device("cpu")
    if refused:
        with pytest.raises(UserError, match=r"for 64 tokens, data.sequence_length is 65"):
            build_model(node(kind), inputs, 0, cpu)
    else:
        assert build_model(node(kind), inputs, 0, cpu)(tokens(1, 65)).shape == (1, 65, V)


def test_kernels_of_downloads_named_in_a_file_are_not_used() -> None:
    config = {
        "model_type": "gpt_neox",
        **COMMON,
        "_attn_implementation": "someone/kernel",
        "attn_implementation": "x/y",
    }
    model: Any = build_model(Component("hf", {"config": config}), ModelInputs(V, 40), 0, torch.device("cpu"))
    assert model.causal.config._attn_implementation == "sdpa"


def test_a_model_that_sees_what_comes_after_is_refused() -> None:
    model = build_model(
        Component("hf", {"config": {"model_type": "bert", **COMMON}}), ModelInputs(V, 40), 0, torch.device("cpu")
    )
    with pytest.raises(UserError, match="comes after"):
        model(tokens())


def test_without_transformers_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'ostinato\[hf\]'"):
        made("gpt_neox")

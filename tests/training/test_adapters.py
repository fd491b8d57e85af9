"""Training an adapter: what is stored, what a reference costs, how runs go on from such a run, what is refused."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ostinato.core.errors import OstinatoError, RefusedError, UserError
from ostinato.core.registry import MODELS
from ostinato.models.lora import LoRALinear, merged_state
from ostinato.training.adapters import AdapterOrigin
from ostinato.training.build import Built, build, open_strategy
from ostinato.training.checkpoint_folder import Checkpoints, Retention
from ostinato.training.guards import Rewind
from ostinato.training.hooks import Average
from ostinato.training.optimizers import named_parameters
from ostinato.training.reference import StartingWeights
from ostinato.training.saver import Saver
from ostinato.training.state import named_weights
from ostinato.training.weights import find_weights, load_run_model
from tests.training.gradient_of_step import gradient_of_step
from tests.training.tiny import tiny_config, write_config

LORA = ("model.adapter.name=lora", "model.adapter.rank=4")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def made(folder: Path, algorithm: str, *overrides: str) -> Built:
    config = tiny_config(folder, algorithm, *overrides)
    return build(config, open_strategy(config))


def with_saver(built: Built, run: Path, every: int = 2) -> Any:
    """A trainer that saves below `run` as a run of the command line does."""
    checkpoints = Checkpoints(run / "checkpoints", Retention(), lambda *_, **__: None, background=False)
    saver = Saver(checkpoints, {"run": {"id": run.name, "name": run.name}}, built.model_files)
    saver.every, built.trainer.parts.saver = every, saver
    built.trainer.add_hook(saver)
    return built.trainer


def run(folder: Path, name: str, algorithm: str, *overrides: str) -> Any:
    """A finished run below `experiments`; its trainer."""
    trainer = with_saver(made(folder, algorithm, *overrides), folder / "experiments" / name)
    trainer.train()
    return trainer


def tokens() -> Tensor:
    return torch.randint(0, 256, (2, 20), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model.eval()(tokens())


def newest(folder: Path, name: str) -> Path:
    return sorted((folder / "experiments" / name / "checkpoints").glob("step_????????"))[-1]


# ---- what is trained and stored


def test_the_optimizer_and_the_buckets_of_ddp_hold_the_adapter_alone(tmp_path: Path) -> None:
    from ostinato.distributed.ddp import DataParallel

    trainer = made(tmp_path, "sft", *LORA).trainer
    names = {name for name, _ in named_parameters(trainer.optimizer)}
    assert names and all(".lora_" in name for name in names)
    strategy = DataParallel("cpu")
    strategy.wrap_model(trainer.model)
    assert {p for bucket in strategy.buckets for p in bucket.parameters} == {
        p for _, p in named_parameters(trainer.optimizer)
    }


def test_a_checkpoint_holds_the_adapter_and_a_resume_is_exact(tmp_path: Path) -> None:
    options = (*LORA, "model.adapter.dropout=0.1", "model.adapter.dora=true", "training.micro_batch_size=3")
    whole = run(tmp_path, "whole", "sft", *options)
    begun = made(tmp_path, "sft", *options)
    half = with_saver(begun, tmp_path / "experiments" / "half")
    half.total_steps = 4
    half.train()
    resumed = with_saver(made(tmp_path, "sft", *options), tmp_path / "experiments" / "half")
    assert resumed.load_checkpoint() == 4
    resumed.train()
    for name, weight in named_weights(whole.model).items():
        assert torch.equal(weight, named_weights(resumed.model)[name]), name
    manifest = json.loads((newest(tmp_path, "half") / "manifest.json").read_text())
    stored = [name for name in manifest["tensors"] if name.startswith("model/")]
    assert stored and all(
        name.startswith("model/base_model.model.model.layers.") and ".lora_" in name for name in stored
    )
    assert manifest["state"]["bases"]["model"]["seed"] == 3 and manifest["state"]["bases"]["model"]["xxh3"]
    files = {path.name for path in (newest(tmp_path, "half") / "model").glob("*")}
    assert {"adapter_model.safetensors", "adapter_config.json", "config.json", "tokenizer.json"} <= files


def test_a_value_model_trains_and_stores_its_new_head(tmp_path: Path) -> None:
    trainer = run(tmp_path, "judge", "reward_model", *LORA)
    names = {name for name, _ in named_parameters(trainer.optimizer)}
    assert "score.weight" in names and "reward_mean" not in names
    stored = load_file(newest(tmp_path, "judge") / "model" / "adapter_model.safetensors")
    assert {f"base_model.model.{name}" for name in ("score.weight", "reward_mean", "reward_std")} <= stored.keys()
    judge, _ = load_run_model(tmp_path / "experiments" / "judge")
    torch.testing.assert_close(logits(judge), logits(trainer.model), rtol=0, atol=1e-5)
    assert torch.equal(judge.reward_std, trainer.model.reward_std)  # type: ignore[arg-type]


def test_averages_and_rewinds_know_the_adapter(tmp_path: Path) -> None:
    trainer = with_saver(made(tmp_path, "pretrain", *LORA), tmp_path / "experiments" / "jumpy")
    average = Average(trainer.model, 0.9)
    trainer.add_hook(average)
    assert average.weights and all(".lora_" in name for name in average.weights)
    allows = trainer.parts.guard.allows

    def jumpy(step: int, *rest: Any) -> bool:
        if step == 4 and not trainer.plan_skips:
            raise Rewind
        return allows(step, *rest)

    trainer.parts.guard.allows = jumpy
    trainer.train()
    assert trainer.plan_skips == [(3, 2)] and trainer.global_step == 6


def test_gradients_do_not_depend_on_ranks(tmp_path: Path) -> None:
    config, output = write_config(tmp_path, "sft"), tmp_path / "found.safetensors"
    overrides = [*LORA, "training.max_grad_norm=null", "training.micro_batch_size=2"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.gradient_of_step", str(config), str(output), *overrides]
    command += ["distributed.strategy=ddp"]
    ranks = [
        subprocess.Popen(command, env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in ranks] == [0, 0]
    found, wanted = load_file(output), gradient_of_step(tiny_config(tmp_path, "sft", *overrides))
    assert found.keys() == wanted.keys() and any(".lora_B" in name for name in found)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6 * float(gradient.abs().max()))


def test_a_narrow_base_with_a_head_of_its_own_wants_mixed_precision(tmp_path: Path) -> None:
    options = (*LORA, "model.adapter.base_dtype=bfloat16", "training.total_steps=2")
    with pytest.raises(UserError, match="training.mixed_precision: bf16"):
        made(tmp_path, "reward_model", *options)
    trainer = run(tmp_path, "judge", "reward_model", *options, "training.mixed_precision=bf16")
    judge, _ = load_run_model(tmp_path / "experiments" / "judge")
    assert torch.equal(judge.score.weight, trainer.model.score.weight)  # type: ignore[union-attr]


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="transformer is no adapter"):
        made(tmp_path, "sft", "model.adapter.name=transformer")


# ---- the reference and the critic


@pytest.mark.parametrize("algorithm", ["dpo", "kto", "grpo", "ppo"])
def test_a_reference_holds_no_second_copy_of_the_base(tmp_path: Path, algorithm: str) -> None:
    built = made(tmp_path, algorithm, *LORA)
    reference: Any = built.trainer.reference  # type: ignore[attr-defined]
    assert isinstance(reference, StartingWeights) and reference.model is built.trainer.model
    trained = sum(p.numel() for p in built.trainer.model.parameters() if p.requires_grad)
    assert sum(one.numel() for one in reference.first) == trained
    before, start = logits(reference.model), {n: w.clone() for n, w in named_weights(reference.model).items()}
    for parameter in reference.trained:
        parameter.data += 0.1
    moved = {name: weight.clone() for name, weight in named_weights(reference.model).items()}
    reference.model.train()
    assert torch.equal(reference(tokens()), before) and reference.model.training
    assert not torch.equal(logits(reference.model), before)
    assert all(torch.equal(weight, moved[name]) for name, weight in named_weights(reference.model).items())
    assert any(not torch.equal(start[name], weight) for name, weight in moved.items())


@pytest.mark.parametrize("options", [(), ("model.adapter.dora=true",), ("model.adapter.base_dtype=bfloat16",)])
def test_the_first_loss_of_dpo_is_ln_2(tmp_path: Path, options: tuple[str, ...]) -> None:
    losses: list[float] = []
    trainer = made(tmp_path, "dpo", *LORA, *options, "training.total_steps=3").trainer
    trainer.add_hook(lambda _, output: losses.append(output.loss))
    trainer.train()
    rounding = 1e-4 if "bfloat16" in "".join(options) else 1e-7  # norms have other kernels where there is a gradient
    assert losses[0] == pytest.approx(math.log(2), abs=rounding) and losses[-1] < losses[0]


def test_a_reference_starts_where_a_continued_adapter_is(tmp_path: Path) -> None:
    start = run(tmp_path, "taught", "sft", *LORA)
    trainer = made(tmp_path, "dpo", *LORA, "model.name=null", "model.init_from=run:taught", "training.total_steps=2")
    assert torch.equal(logits(trainer.trainer.model), logits(start.model))
    losses: list[float] = []
    trainer.trainer.add_hook(lambda _, output: losses.append(output.loss))
    trainer.trainer.train()
    assert losses[0] == pytest.approx(math.log(2), abs=1e-7)
    assert torch.equal(trainer.trainer.reference(tokens()), logits(start.model))  # type: ignore[attr-defined]


def test_a_critic_shares_the_base_of_the_policy_and_has_an_adapter_of_its_own(tmp_path: Path) -> None:
    trainer = made(tmp_path, "ppo", *LORA, "ppo.critic=separate").trainer
    policy, critic = trainer.parts.models["model"], trainer.parts.models["critic"]
    ours, theirs = dict(policy.named_parameters()), dict(critic.named_parameters())
    for name, own in theirs.items():
        if name in ours:
            shared = ".lora_" not in name
            assert (own.data_ptr() == ours[name].data_ptr()) is shared and own.requires_grad is not shared, name
    assert theirs["score.weight"].requires_grad
    whole = run(tmp_path, "whole", "ppo", *LORA, "ppo.critic=separate")
    half = with_saver(made(tmp_path, "ppo", *LORA, "ppo.critic=separate"), tmp_path / "experiments" / "half")
    half.total_steps = 2
    half.train()
    again = with_saver(made(tmp_path, "ppo", *LORA, "ppo.critic=separate"), tmp_path / "experiments" / "half")
    assert again.load_checkpoint() == 2
    again.train()
    for label in ("model", "critic"):
        left, right = (named_weights(one.parts.models[label]) for one in (whole, again))
        assert all(torch.equal(weight, right[name]) for name, weight in left.items())


# ---- runs from runs


def test_what_is_loaded_of_a_run_is_the_merged_model(tmp_path: Path) -> None:
    trainer = run(tmp_path, "taught", "sft", *LORA)
    model, tokenizer = load_run_model(tmp_path / "experiments" / "taught")
    assert not any(isinstance(module, LoRALinear) for module in model.modules())
    torch.testing.assert_close(logits(model), logits(trainer.model), rtol=0, atol=1e-6)
    assert tokenizer.fingerprint == trainer.tokenizer.fingerprint
    merged = merged_state(trainer.model)
    assert all(torch.equal(weight, merged[name]) for name, weight in named_weights(model).items())


def test_bf16_bases_are_loaded_as_they_were_trained_on(tmp_path: Path) -> None:
    trainer = run(tmp_path, "taught", "sft", *LORA, "model.adapter.base_dtype=bfloat16")
    model, _ = load_run_model(tmp_path / "experiments" / "taught")
    assert {one.dtype for one in model.parameters()} == {torch.float32}
    torch.testing.assert_close(logits(model), logits(trainer.model).float(), rtol=0.1, atol=0.1)
    embedding = trainer.model.get_parameter("model.embed_tokens.weight")
    assert torch.equal(model.get_parameter("model.embed_tokens.weight"), embedding.float())


def test_the_same_adapter_goes_on_and_another_one_stands_on_the_merged_model(tmp_path: Path) -> None:
    from_it = ("model.name=null", "model.init_from=run:taught")
    first = run(tmp_path, "taught", "sft", *LORA)
    same = made(tmp_path, "sft", *LORA, "model.adapter.dropout=0.1", *from_it).trainer.model
    assert torch.equal(logits(same), logits(first.model))
    before, after = named_weights(first.model), named_weights(same)
    assert all(torch.equal(before[name], after[name]) for name in before)
    other = made(tmp_path, "sft", "model.adapter.name=lora", "model.adapter.rank=2", *from_it).trainer.model
    name = "model.layers.0.mlp.up_proj"
    assert torch.equal(other.get_parameter(f"{name}.weight"), first.model.get_submodule(name).merged_weight())
    torch.testing.assert_close(logits(other), logits(first.model), rtol=0, atol=1e-6)
    plain = made(tmp_path, "sft", *from_it).trainer.model
    assert all(one.requires_grad for one in plain.parameters())
    torch.testing.assert_close(logits(plain), logits(first.model), rtol=0, atol=1e-6)


def test_runs_of_runs_of_adapters_can_be_loaded(tmp_path: Path) -> None:
    run(tmp_path, "base", "sft", "training.total_steps=2")
    for name, before, rank in (("first", "base", 4), ("second", "first", 4), ("third", "second", 3)):
        origin = ("model.name=null", f"model.init_from=run:{before}")
        options = ("model.adapter.name=lora", f"model.adapter.rank={rank}", *origin, "training.total_steps=2")
        trainer = run(tmp_path, name, "sft", *options)
        model, _ = load_run_model(tmp_path / "experiments" / name)
        torch.testing.assert_close(logits(model), logits(trainer.model), rtol=0, atol=1e-6)
    second = find_weights("run:second", tmp_path / "experiments")
    assert isinstance(second, AdapterOrigin) and second.base is not None
    assert second.base.lineage["run"] == "base"  # it went on with the adapter of `first`
    shutil.rmtree(tmp_path / "experiments" / "base")
    with pytest.raises(UserError, match="the base of this adapter is not here any more"):
        load_run_model(tmp_path / "experiments" / "third")


def test_a_base_that_changed_is_refused(tmp_path: Path) -> None:
    run(tmp_path, "base", "sft", "training.total_steps=2")
    folder = tmp_path / "base"
    shutil.copytree(newest(tmp_path, "base") / "model", folder)
    options = (*LORA, "model.name=null", f"model.init_from={folder}")
    run(tmp_path, "taught", "sft", *options, "training.total_steps=2")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][0, 0] += 1e-3
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(RefusedError, match="trained on other weights than"):
        load_run_model(tmp_path / "experiments" / "taught")
    again = with_saver(made(tmp_path, "sft", *options), tmp_path / "experiments" / "taught")
    with pytest.raises(RefusedError, match="trained on other weights than"):
        again.load_checkpoint()
    with pytest.raises(RefusedError, match="trained on other weights than"):
        made(tmp_path, "sft", *LORA, "model.name=null", "model.init_from=run:taught")


def test_fresh_weights_are_known_by_their_seed(tmp_path: Path) -> None:
    run(tmp_path, "taught", "sft", *LORA, "training.total_steps=2")
    other = made(tmp_path, "sft", *LORA, "experiment.seed=4")
    trainer = with_saver(other, tmp_path / "experiments" / "taught")
    with pytest.raises(RefusedError, match="other weights than the weights of seed 3"):
        trainer.load_checkpoint()


# ---- peft's folders


def test_a_folder_of_peft_is_a_start_and_an_adapter(tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    trainer = run(tmp_path, "base", "sft", "training.total_steps=2")
    base = newest(tmp_path, "base") / "model"
    other = transformers.AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    adapted = peft.get_peft_model(other, config).eval()
    adapted.save_pretrained(tmp_path / "peft")
    wanted = adapted(input_ids=tokens()).logits.detach()
    assert not torch.allclose(wanted, logits(trainer.model), atol=1e-2)
    start = made(tmp_path, "sft", "model.name=null", f"model.init_from={tmp_path / 'peft'}").trainer
    torch.testing.assert_close(logits(start.model), wanted, rtol=0, atol=1e-5)
    named = ("model.name=null", f"model.init_from={base}", "model.adapter.name=lora")
    going_on = run(tmp_path, "on", "sft", *named, f"model.adapter.path={tmp_path / 'peft'}", "training.total_steps=1")
    names = [name for name, _ in named_parameters(going_on.optimizer)]
    assert len(names) == 8 and going_on.model.get_submodule("model.layers.0.mlp.up_proj").lora_A.weight.shape[0] == 3
    found = newest(tmp_path, "on") / "model"
    again = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base), found).eval()
    torch.testing.assert_close(again(input_ids=tokens()).logits, logits(going_on.model), rtol=0, atol=1e-5)
    named_base = json.loads((found / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert Path(named_base) == base.resolve()


@pytest.mark.parametrize("saved", [False, True])
def test_tokens_can_be_added_to_a_run_of_an_adapter(tmp_path: Path, caplog: Any, saved: bool) -> None:
    options = (*LORA, *(["model.adapter.modules_to_save=[embed_tokens]"] if saved else []), "training.total_steps=2")
    first = run(tmp_path, "taught", "sft", *options)
    more = ("model.name=null", "model.init_from=run:taught", "tokenizer.added_tokens=['<|more|>']")
    trainer = run(tmp_path, "more", "sft", *options, *more)
    rows = first.model.output_weight.shape[0]
    assert trainer.model.output_weight.shape[0] == rows + 1
    assert ("rows of new tokens are frozen" in caplog.text) is not saved
    fresh = made(tmp_path, "sft", *options, *more).trainer.model
    torch.testing.assert_close(logits(fresh)[..., :rows], logits(first.model), rtol=0, atol=1e-5)
    model, tokenizer = load_run_model(tmp_path / "experiments" / "more")
    assert tokenizer.vocab_size == rows + 1
    torch.testing.assert_close(logits(model), logits(trainer.model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["Qwen3", "Phi3", "GPT2", "GPTNeoX"])
def test_bases_from_folders_of_transformers(tmp_path: Path, family: str) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    if family in ("Qwen3", "Phi3"):
        shape["num_key_value_heads"] = 2
    if family == "GPTNeoX" and "hf" not in MODELS.names():
        pytest.skip("no model of transformers' own")
    if family == "GPT2":
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
    ends = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "max_position_embeddings": 128}
    config = getattr(transformers, f"{family}Config")(vocab_size=259, **shape, **(ends if family != "GPT2" else {}))
    torch.manual_seed(0)
    base = transformers.AutoModelForCausalLM.from_config(config).eval()
    base.save_pretrained(tmp_path / "base")
    named = ("model.name=null", f"model.init_from={tmp_path / 'base'}", "training.total_steps=2")
    trainer = run(tmp_path, "taught", "sft", *LORA, *named)
    assert not torch.allclose(logits(trainer.model), base(input_ids=tokens()).logits, atol=1e-4)
    model, _ = load_run_model(tmp_path / "experiments" / "taught")
    torch.testing.assert_close(logits(model), logits(trainer.model), rtol=0, atol=1e-5)
    if family in ("Qwen3", "GPTNeoX"):  # whose projections are ours
        again = peft.PeftModel.from_pretrained(base, newest(tmp_path, "taught") / "model").eval()
        torch.testing.assert_close(again(input_ids=tokens()).logits, logits(trainer.model), rtol=0, atol=1e-5)


def test_an_adapter_that_a_run_started_from_must_not_change(tmp_path: Path) -> None:
    run(tmp_path, "taught", "sft", *LORA, "training.total_steps=1")
    folder = tmp_path / "given"
    shutil.copytree(newest(tmp_path, "taught") / "model", folder)
    for name, options in (
        ("by_path", ("model.adapter.name=lora", f"model.adapter.path={folder}")),
        ("by_init", (*LORA, "model.name=null", f"model.init_from={folder}")),
    ):
        run(tmp_path, name, "dpo", *options, "training.total_steps=2")
        again = with_saver(made(tmp_path, "dpo", *options), tmp_path / "experiments" / name)
        assert again.load_checkpoint() == 2
        tensors = load_file(folder / "adapter_model.safetensors")
        next(iter(tensors.values()))[0, 0] += 0.01
        save_file(tensors, folder / "adapter_model.safetensors")
        changed = with_saver(made(tmp_path, "dpo", *options), tmp_path / "experiments" / name)
        with pytest.raises(RefusedError, match="the adapter that the run started from is another one"):
            changed.load_checkpoint()


def test_a_folder_of_peft_has_the_tokenizer_of_its_base(tmp_path: Path) -> None:
    named = ("tokenizer.added_tokens=['<|more|>']", "training.total_steps=1")
    run(tmp_path, "base", "sft", *named)
    run(tmp_path, "taught", "sft", *LORA, "model.name=null", "model.init_from=run:base", "training.total_steps=1")
    folder = tmp_path / "alone"
    folder.mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(newest(tmp_path, "taught") / "model" / file, folder)
    trainer = made(tmp_path, "sft", "model.name=null", f"model.init_from={folder}").trainer
    assert trainer.tokenizer.encode("<|more|>") == [trainer.tokenizer.vocab_size - 1]
    torch.testing.assert_close(logits(trainer.model), logits(find_weights(str(folder), tmp_path).build("cpu")))


def test_precomputed_references_are_of_base_and_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTINATO_CACHE", str(tmp_path / "cache"))
    options = ("dpo.precompute_reference=true", "training.total_steps=1")
    losses: list[float] = []
    trainer = made(tmp_path, "dpo", *LORA, *options).trainer
    trainer.add_hook(lambda _, output: losses.append(output.loss))
    trainer.train()
    assert losses == [pytest.approx(math.log(2), abs=1e-7)]
    made(tmp_path, "dpo", *LORA, *options)
    folders = list((tmp_path / "cache" / "references").iterdir())
    made(tmp_path, "dpo", *LORA, *options, "model.init_std=0.3")
    assert len(list((tmp_path / "cache" / "references").iterdir())) == 2 * len(folders)


@pytest.mark.parametrize("harm", ["cut", "missing", "no base"])
def test_broken_adapter_folders_give_one_clear_message(tmp_path: Path, harm: str) -> None:
    run(tmp_path, "taught", "sft", *LORA, "training.total_steps=2")
    folder = tmp_path / "copy"
    shutil.copytree(newest(tmp_path, "taught") / "model", folder)
    file = folder / "adapter_model.safetensors"
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    elif harm == "missing":
        file.unlink()
    else:
        (folder / "config.json").unlink()
    with pytest.raises(OstinatoError, match=str(folder)):
        made(tmp_path, "sft", "model.name=null", f"model.init_from={folder}")


def test_the_commands_read_such_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ostinato.cli.main import main

    config = write_config(tmp_path, "grpo")
    root = ["--root", str(tmp_path / "experiments")]

    def command(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        assert not ended.value.code, capsys.readouterr()
        return capsys.readouterr().out

    overrides = [part for one in (*LORA, "training.total_steps=4", "training.ema_decay=0.9") for part in ("-o", one)]
    assert "of them trained" in command("train", str(config), "--name", "g", *overrides)
    assert "intact" in command("runs", "verify", "g", *root)
    assert "intact" in command("checkpoint", "verify", "g", *root)
    assert "lora_B" in command("checkpoint", "diff", "g@2", "g@4", *root)
    command("generate", "g", "--prompt", "the", *root)
    damaged = newest(tmp_path, "g") / "model" / "adapter_model.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-3] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(SystemExit) as ended:
        main(["checkpoint", "verify", "g", *root])
    assert ended.value.code == 3

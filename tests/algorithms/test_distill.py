"""Distillation on a tiny model: against the formulas on whole logits, document by document, whatever the step's cut."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ostinato.core import seeding
from ostinato.core.config import Config, load_config
from ostinato.core.errors import RefusedError, UserError
from ostinato.core.mistakes import ConfigError
from ostinato.data.distillation_rows import PlacedTokens
from ostinato.training.build import build, open_strategy
from ostinato.training.responses import Response
from tests.training.gradient_of_step import gradient_of_step
from tests.training.test_invariance import NO_CLIP, assert_same
from tests.training.test_trainer import with_saver
from tests.training.tiny import tiny_config, write_config, write_teacher

ON_DATA, ON_OWN = "distill.on_policy_fraction=0", "distill.on_policy_fraction=1"
BY_GRADIENT = ["distill.objective=policy_gradient", ON_OWN, "generation.temperature=0.7"]
CUTS = ["training.micro_batch_size=1", "training.micro_batch_size=3", "data.packing=false"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def trainer_of(config: Config):  # type: ignore[no-untyped-def]
    trainer = build(config, open_strategy(config)).trainer
    trainer.perf, trainer._plan = {"data_wait_seconds": 0.0}, trainer.parts.open_loader([]).steps(1)
    return trainer


def step_of(trainer):  # type: ignore[no-untyped-def]
    """The record of a step without its update, and the samples of its micro-batches."""
    trainer.optimizer.step = lambda: None
    data = trainer.next_data()
    return trainer.training_step(data), [row for batch in data.micro_batches for row in batch.rows]


def logits(model: torch.nn.Module, ids: list[int]) -> Tensor:
    return model(torch.tensor([ids]))[0].double()


def sides(trainer, ids, trained, temperature: float = 1.0):  # type: ignore[no-untyped-def]
    """log S and log P at the trained tokens of one document read alone, and these tokens: (n, V), (n, V), (n,)."""
    ids, trained = [int(one) for one in ids], np.asarray(trained)
    places = torch.from_numpy(np.flatnonzero(trained[1:]))
    log_s, log_p = (
        (logits(model, ids)[places] / temperature).log_softmax(1) for model in (trainer.model, trainer.teacher)
    )
    return log_s, log_p.detach(), torch.tensor(ids)[places + 1]


def jsd(log_s: Tensor, log_p: Tensor, beta: float) -> Tensor:
    """By the definitions of GKD's section 3, not by ours."""
    s, p = log_s.exp(), log_p.exp()
    if beta == 0.0:
        return (p * (log_p - log_s)).sum(1)
    if beta == 1.0:
        return (s * (log_s - log_p)).sum(1)
    log_m = (beta * p + (1 - beta) * s).log()
    return beta * (p * (log_p - log_m)).sum(1) + (1 - beta) * (s * (log_s - log_m)).sum(1)


def number(value: Tensor) -> float:
    return float(value.detach())


def pick(log_probs: Tensor, labels: Tensor) -> Tensor:
    return log_probs.gather(1, labels[:, None])[:, 0]


def gradient_of(trainer, loss: Tensor) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    named = dict(trainer.model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()))
    return {name: gradient.float() for name, gradient in zip(named, found, strict=True)}


def assert_gradient(config: Config, loss: Tensor, wanted: dict[str, Tensor]) -> None:
    found = gradient_of_step(config)
    assert float(found.pop("loss")) == pytest.approx(number(loss), rel=1e-5)
    found.pop("validation")
    assert set(found) == set(wanted)
    for name, gradient in wanted.items():
        assert (found[name] - gradient).norm() < 1e-5 * gradient.norm(), name


def documents(row_or_response) -> tuple[list[int], np.ndarray]:  # type: ignore[no-untyped-def]
    if isinstance(row_or_response, Response):
        row_or_response = row_or_response.tokens
    return row_or_response.ids.tolist(), row_or_response.trained


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_on_data_it_is_the_divergence_on_whole_logits_over_the_tokens_of_the_step(tmp_path: Path, beta: float) -> None:
    """Temperature 0.7 on both sides, without its square; 0.25 x the likelihood at temperature 1 beside it."""
    options = [NO_CLIP, ON_DATA, f"distill.beta={beta}", "distill.temperature=0.7", "distill.nll_weight=0.25"]
    trainer = trainer_of(tiny_config(tmp_path, "distill", *options))
    output, rows = step_of(trainer)
    total, divergence, likelihood, taught = 0, 0.0, 0.0, 0.0
    for row in rows:
        log_s, log_p, labels = sides(trainer, *documents(row), 0.7)
        divergence = divergence + jsd(log_s, log_p, beta).sum()
        likelihood = likelihood + pick(sides(trainer, *documents(row))[0], labels).sum()
        taught, total = taught + pick(log_p, labels).sum(), total + len(labels)
    assert output.tokens == total
    assert output.metrics["divergence"] == pytest.approx(number(divergence) / total, rel=1e-5)
    assert output.metrics["teacher_log_prob"] == pytest.approx(number(taught) / total, rel=1e-5)
    assert output.metrics["nll"] == pytest.approx(number(-likelihood) / total, rel=1e-5)
    loss = (divergence - 0.25 * likelihood) / total
    wanted = gradient_of(trainer, loss)
    for cut in CUTS:
        assert_gradient(tiny_config(tmp_path, "distill", *options, cut), loss, wanted)


@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_the_students_own_responses_take_the_places_that_are_drawn(tmp_path: Path, fraction: float) -> None:
    options = [NO_CLIP, f"distill.on_policy_fraction={fraction}", "generation.temperature=0.8", "distill.beta=0.3"]
    options += ["distill.nll_weight=0.5"] if fraction < 1 else []
    trainer = trainer_of(tiny_config(tmp_path, "distill", *options))
    output, rows = step_of(trainer)
    drawn = [n for n in range(8) if seeding.key(3, "distill", 1, n) < fraction * 2**63]
    assert len(drawn) == 8 if fraction == 1 else 1 <= len(drawn) <= 7
    assert [one.sample.prompt for one in trainer.last_rollout] == [r.position for r in rows if r.position in drawn]
    for one in trainer.last_rollout:
        (row,) = (row for row in rows if row.position == one.sample.prompt)
        assert one.sample.prompt_ids == row.ids[: int(np.argmax(row.trained))].tolist()
    kept = [row for row in rows if row.position not in drawn]
    own = sum(one.length for one in trainer.last_rollout)
    assert output.metrics["response/tokens_mean"] == own / len(drawn)
    assert not any(name.startswith("reward") for name in output.metrics)
    divergence, likelihood, total, of_data = 0.0, 0.0, 0, 0
    for one in [*trainer.last_rollout, *kept]:
        log_s, log_p, labels = sides(trainer, *documents(one))
        divergence, total = divergence + jsd(log_s, log_p, 0.3).sum(), total + len(labels)
        if isinstance(one, PlacedTokens):
            likelihood, of_data = likelihood + pick(log_s, labels).sum(), of_data + len(labels)
    assert output.tokens == total == own + of_data
    loss = divergence / total - (0.5 * likelihood / of_data if kept else 0.0)
    wanted = gradient_of(trainer, loss)
    for cut in CUTS:
        assert_gradient(tiny_config(tmp_path, "distill", *options, cut), loss, wanted)


@pytest.mark.parametrize("fraction", ["1.0", "0.5"])
def test_policy_gradient_weighs_each_sampled_token_by_how_much_likelier_the_teacher_finds_it(
    tmp_path: Path, fraction: str
) -> None:
    """-A log S, A = log P - log S, over sampled tokens; rows of data add their likelihood over theirs."""
    options = [NO_CLIP, "distill.objective=policy_gradient", f"distill.on_policy_fraction={fraction}"]
    options += ["distill.nll_weight=0.5"] if fraction == "0.5" else ["generation.temperature=0.7"]
    temperature = 1.0 if fraction == "0.5" else 0.7
    trainer = trainer_of(tiny_config(tmp_path, "distill", *options))
    output, rows = step_of(trainer)
    own = {one.sample.prompt for one in trainer.last_rollout}
    kept = [row for row in rows if row.position not in own]
    objective, advantage, total, likelihood, of_data = 0.0, 0.0, 0, 0.0, 0
    for one in trainer.last_rollout:
        log_s, log_p, labels = sides(trainer, *documents(one), temperature)
        a = pick(log_p, labels) - pick(log_s, labels).detach()
        np.testing.assert_allclose(one.tensors["behaviour"], pick(log_s, labels).detach(), rtol=0, atol=1e-5)
        objective, advantage, total = objective - (a * pick(log_s, labels)).sum(), advantage + a.sum(), total + len(a)
    for row in kept:
        log_s, _, labels = sides(trainer, *documents(row))
        likelihood, of_data = likelihood + pick(log_s, labels).sum(), of_data + len(labels)
    assert output.metrics["divergence"] == pytest.approx(number(-advantage) / total, rel=1e-5)
    assert output.metrics["ratio/min"] == output.metrics["ratio/max"] == 1.0  # exactly: one update
    nll = 0.5 * likelihood / of_data if kept else torch.tensor(0.0)
    wanted = gradient_of(trainer, objective / total - nll)
    loss = -advantage / total - nll  # at a ratio of 1
    for cut in CUTS:
        assert_gradient(tiny_config(tmp_path, "distill", *options, cut), loss.detach(), wanted)


def test_held_out_data_is_measured_by_reverse_kl_where_the_objective_is_its_policy_gradient(tmp_path: Path) -> None:
    trainer = trainer_of(tiny_config(tmp_path, "distill", *BY_GRADIENT))
    held_out = trainer.parts.data.validation
    values = [
        jsd(*sides(trainer, held_out[n].ids, held_out[n].trained, 0.7)[:2], 1.0).detach() for n in range(len(held_out))
    ]
    found = trainer.evaluate()
    assert found["validation/loss"] == pytest.approx(float(torch.cat(values).mean()), rel=1e-5)
    assert found["validation/divergence"] == pytest.approx(found["validation/loss"], rel=1e-6)


def test_several_updates_clip_what_the_first_ones_moved_and_do_not_depend_on_micro_batches(tmp_path: Path) -> None:
    several = [*BY_GRADIENT, "distill.epochs=2", "distill.minibatches=3", NO_CLIP]
    whole = gradient_of_step(tiny_config(tmp_path, "distill", *several))
    assert_same(gradient_of_step(tiny_config(tmp_path, "distill", *several, "training.micro_batch_size=1")), whole)
    trainer = trainer_of(tiny_config(tmp_path, "distill", *several, "scheduler.warmup_steps=0"))
    metrics = trainer.training_step(trainer.next_data()).metrics
    assert metrics["ratio/min"] < 1.0 < metrics["ratio/max"]
    wanted = """policy_loss divergence teacher_log_prob entropy kl approx_kl ratio/mean ratio/min ratio/max
    clip_fraction/low clip_fraction/high rollout/mismatch_max rollout/mismatch_k1 rollout/mismatch_k3
    response/tokens_mean response/tokens_min response/tokens_max response/truncated_fraction
    stop/eos stop/stop_string stop/length stop/context"""
    assert set(metrics) == set(wanted.split())
    shown = trainer.samples()[0]
    assert (shown["score"], shown["parts"]) == (None, {}) and isinstance(shown["prompt"], str)


@pytest.mark.parametrize("options", [[], [*BY_GRADIENT, "distill.minibatches=2"]])
def test_ranks_do_not_matter(tmp_path: Path, options: list[str]) -> None:
    options = [NO_CLIP, *options, "training.micro_batch_size=3"]
    config = write_config(tmp_path, "distill")
    whole, output = gradient_of_step(load_config(config, options)), tmp_path / "ranks.safetensors"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.gradient_of_step", str(config), str(output)]
    command += [*options, "distributed.strategy=ddp"]
    processes = [
        subprocess.Popen(command, env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert_same(load_file(output), whole)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(tmp_path: Path, beta: float) -> None:
    config = write_config(tmp_path, "distill")
    same = ["model.name=null", f"model.init_from={tmp_path}/teacher", f"distill.beta={beta}", NO_CLIP]
    trainer = trainer_of(load_config(config, ["model!={dropout: 0.3}", *same][1:]))
    output, _ = step_of(trainer)
    assert abs(output.metrics["divergence"]) < 1e-6
    other = trainer_of(load_config(config, [f"distill.beta={beta}", NO_CLIP]))
    assert output.grad_norm < 1e-5 * step_of(other)[0].grad_norm


def test_neither_model_has_dropout_and_the_teacher_stays_as_it_is(tmp_path: Path) -> None:
    plain = gradient_of_step(tiny_config(tmp_path, "distill", NO_CLIP))
    assert_same(gradient_of_step(tiny_config(tmp_path, "distill", NO_CLIP, "model.dropout=0.5")), plain)
    trainer = build(tiny_config(tmp_path, "distill"), open_strategy(tiny_config(tmp_path, "distill"))).trainer
    before = {name: p.clone() for name, p in trainer.teacher.named_parameters()}  # type: ignore[attr-defined]
    trainer.train()
    for name, parameter in trainer.teacher.named_parameters():  # type: ignore[attr-defined]
        assert torch.equal(before[name], parameter) and parameter.grad is None and not parameter.requires_grad


def test_the_divergence_falls(tmp_path: Path) -> None:
    more = ["training.total_steps=60", ON_DATA, "scheduler.warmup_steps=0"]
    trainer = build(config := tiny_config(tmp_path, "distill", *more), open_strategy(config)).trainer
    seen: list[float] = []
    trainer.add_hook(lambda _, output: seen.append(output.metrics["divergence"]))
    trainer.train()
    assert seen[-1] < 0.75 * seen[0]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["distill.teacher=run:nobody"], "distill.teacher: run:nobody: no such folder"),
        (["distill.objective=policy_gradient", ON_DATA], "learns from what the student samples"),
        (["distill.objective=policy_gradient"], "has no use for rows of data"),
        ([*BY_GRADIENT, "distill.beta=0"], "beta and temperature belong to objective: divergence"),
        ([*BY_GRADIENT, "distill.nll_weight=1"], "distill.nll_weight: is for rows of data"),
        ([*BY_GRADIENT, "generation.top_k=3"], "another distribution than the one that is trained"),
        ([*BY_GRADIENT, "distill.dual_clip=0.5"], "dual_clip is a ratio above 1"),
        ([*BY_GRADIENT, "distill.minibatches=9"], "minibatches at most training.batch_size"),
        (["distill.clip_ratio=0.2"], "belong to objective: policy_gradient"),
        (["distill.beta=1.5"], "beta and on_policy_fraction lie in"),
        (["data.train_on=all"], "data.train_on: all leaves no prompt"),
        (["data.sequence_length=200"], "reads 96 tokens, data.sequence_length is 200. Lower that."),
        (["tokenizer.added_tokens=[a1]"], "has 259 tokens, the student 260; they need one vocabulary"),
    ],
)
def test_what_cannot_be_is_said_before_the_first_step(tmp_path: Path, overrides: list[str], words: str) -> None:
    with pytest.raises((UserError, ConfigError, ValueError)) as found:
        config = load_config(write_config(tmp_path, "distill"), overrides)
        build(config, open_strategy(config))
    assert words in str(found.value)


def test_a_teacher_is_required(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"distill\.teacher: required"):
        load_config(write_config(tmp_path, "distill"), ["distill!={}"], complete=True)


def test_a_vocabulary_of_the_same_size_with_another_token_is_named(tmp_path: Path) -> None:
    config = write_config(tmp_path, "distill")
    text = config.read_text()
    write_teacher(tmp_path, "tokenizer.added_tokens=[<x>]")
    config.write_text(text)
    with pytest.raises(UserError, match="another vocabulary: id 259 is '<x>' there, '<y>' here"):
        build(loaded := load_config(config, ["tokenizer.added_tokens=[<y>]"]), open_strategy(loaded))


def test_another_chat_template_is_no_other_vocabulary(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, "distill", "tokenizer.chat_template=plain")
    trainer = build(config, open_strategy(config)).trainer
    theirs = trainer.origin.tokenizer()  # type: ignore[attr-defined]
    assert trainer.tokenizer.fingerprint != theirs.fingerprint


def test_a_resumed_run_keeps_the_teacher_that_it_began_with(tmp_path: Path) -> None:
    """The teacher is a run; it goes on while the student's run is interrupted."""

    def teach(steps: int) -> None:
        config = tiny_config(tmp_path, "sft", f"training.total_steps={steps}")
        teacher = with_saver(build(config, open_strategy(config)), tmp_path / "experiments" / "teacher")
        teacher.load_checkpoint()
        teacher.train()

    def student():  # type: ignore[no-untyped-def]
        config = tiny_config(tmp_path, "distill", "distill.teacher=run:teacher")
        return build(config, open_strategy(config)).trainer

    teach(2)
    first = student()
    assert first.state()["teacher_step"] == 2
    teach(4)
    again = student()
    assert again.state()["teacher_step"] == 4
    again.load_state(first.state())
    weights = dict(first.teacher.named_parameters())
    assert all(torch.equal(weights[name], p) for name, p in again.teacher.named_parameters())
    with pytest.raises(RefusedError, match="no longer what this run began with"):
        again.load_state({**first.state(), "teacher": "another"})


@pytest.mark.parametrize(("trained", "prompt"), [("00011", 3), ("0110011", 5), ("0111", 1), ("00110", 2), ("0101", 3)])
def test_the_prompt_is_what_stands_before_the_last_answer(trained: str, prompt: int) -> None:
    mask = np.array([flag == "1" for flag in trained])
    assert PlacedTokens(np.arange(len(mask)), mask).prompt.tolist() == list(range(prompt))

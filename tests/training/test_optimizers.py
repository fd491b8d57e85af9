"""Optimizers: two updates by hand, torch's own as oracle for Muon, exact resume for all that are registered."""

import copy

import pytest
import torch

import ostinato.training.optimizers  # noqa: F401
from ostinato.core.registry import OPTIMIZERS
from ostinato.training.optimizers import set_learning_rate

RATE = 0.1


def one_matrix_one_vector(value=2.0):
    """A 1x1 matrix (decayed) and a vector of one (not), so that an update is a sum one can do on paper."""
    matrix, vector = torch.full((1, 1), value, requires_grad=True), torch.full((1,), value, requires_grad=True)
    groups = [
        {"params": [matrix], "names": ["hidden.weight"], "role": "matrix"},
        {"params": [vector], "names": ["hidden.bias"], "role": "other"},
    ]
    return groups, matrix, vector


def build(name, groups, implementation="default", **options):
    return OPTIMIZERS.get(name)(groups, RATE, implementation, **options)


def updates(optimizer, parameters, gradients):
    values = []
    for gradient in gradients:
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
        values.append([parameter.item() for parameter in parameters])
    return values


@pytest.mark.parametrize("implementation", ["default", "foreach", "fused"])
def test_adamw_by_hand_and_decay_on_matrices_only(implementation):
    groups, matrix, vector = one_matrix_one_vector()
    got = updates(build("adamw", groups, implementation), [matrix, vector], [0.5, -1.0])
    # step 1: m/v = g/|g| = 1. matrix 2(1 - 0.1 * 0.1) - 0.1, vector 2 - 0.1
    assert got[0] == pytest.approx([1.88, 1.9], abs=1e-6)
    # step 2: m = (0.9 * 0.05 - 0.1) / 0.19, v = (0.95 * 0.0125 + 0.05) / 0.0975, m / sqrt(v) = -0.3633739
    assert got[1] == pytest.approx([1.88 * 0.99 + 0.03633739, 1.9 + 0.03633739], abs=1e-6)


@pytest.mark.parametrize("implementation", ["foreach", "fused"])
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_asked_for_implementation_is_the_one_used(name, implementation):
    optimizer = build(name, one_matrix_one_vector()[0], implementation)
    assert all(group[implementation] is True for group in optimizer.param_groups)


def test_sgd_with_nesterov_momentum_by_hand():
    groups, matrix, vector = one_matrix_one_vector(1.0)
    got = updates(build("sgd", groups, momentum=0.9, nesterov=True, weight_decay=0.5), [matrix, vector], [1.0, 1.0])
    # vector: buffer 1, move 1 + 0.9 = 1.9; buffer 1.9, move 1 + 1.71 = 2.71
    assert [row[1] for row in got] == pytest.approx([0.81, 0.539])
    # matrix: gradient 1 + 0.5 * 1 = 1.5, buffer 1.5, move 1.5 + 1.35 = 2.85
    assert got[0][0] == pytest.approx(1 - 0.285)


def test_lion_by_hand():
    groups, matrix, vector = one_matrix_one_vector()
    got = updates(build("lion", groups, weight_decay=1.0), [matrix, vector], [0.5, -0.02, -1.0])
    # momentum 0, then 0.005, then 0.00475; signs of 0.9 m + 0.1 g: +0.05, +0.0025 (against the gradient), -0.0957
    assert [row[1] for row in got] == pytest.approx([1.9, 1.8, 1.9])
    assert [row[0] for row in got] == pytest.approx([1.7, 1.7 * 0.9 - 0.1, (1.7 * 0.9 - 0.1) * 0.9 + 0.1])


def small_model(seed=0):
    """Named like a language model's: an embedding, two hidden matrices, a norm, a head."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {
        "embed.weight": (11, 4),
        "up.weight": (8, 4),
        "down.weight": (4, 8),
        "norm.weight": (4,),
        "head.weight": (11, 4),
    }
    named = {name: torch.randn(shape, generator=draw).requires_grad_() for name, shape in shapes.items()}
    groups = []
    for role, wanted in (("matrix", True), ("other", False)):
        names = [name for name, p in named.items() if (p.ndim >= 2) is wanted]
        groups.append({"params": [named[name] for name in names], "names": names, "role": role})
    return named, groups


def train(optimizer, named, steps):
    """Steps whose gradients and rates depend on the step alone."""
    for step in steps:
        draw = torch.Generator().manual_seed(step)
        for parameter in named.values():
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        set_learning_rate(optimizer, RATE / step)
        optimizer.step()


def test_muon_is_torchs_muon_on_hidden_matrices_and_adamw_elsewhere():
    named, groups = small_model()
    train(build("muon", groups, matrix_lr_scale=3.0, weight_decay=0.2), named, [1, 2, 3])

    oracle, _ = small_model()
    hidden = [oracle["up.weight"], oracle["down.weight"]]
    decayed, rest = [oracle["embed.weight"], oracle["head.weight"]], [oracle["norm.weight"]]
    muon = torch.optim.Muon(hidden, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.2}, {"params": rest, "weight_decay": 0.0}], betas=(0.9, 0.95)
    )
    for step in [1, 2, 3]:
        muon.param_groups[0]["lr"] = 3 * RATE / step
        train_groups = adamw.param_groups
        for group in train_groups:
            group["lr"] = RATE / step
        draw = torch.Generator().manual_seed(step)
        for parameter in oracle.values():
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        muon.step()
        adamw.step()

    for name, expected in oracle.items():
        assert torch.equal(named[name], expected), name


def test_muon_without_hidden_matrices_and_without_anything_else():
    for names in (["norm.weight"], ["up.weight"]):
        named, _ = small_model()
        chosen = {name: named[name] for name in names}
        groups = [{"params": list(chosen.values()), "names": names, "role": "matrix"}]
        before = copy.deepcopy(chosen)
        train(build("muon", groups), chosen, [1])
        assert not torch.equal(chosen[names[0]], before[names[0]])


@pytest.mark.parametrize("name", ["adamw", "lion", "muon", "sgd"])
def test_resume_is_exact_and_the_state_is_tensors_by_parameter(name):
    assert name in OPTIMIZERS.names()
    options = {"momentum": 0.9} if name == "sgd" else {}
    named, groups = small_model()
    optimizer = build(name, groups, **options)
    train(optimizer, named, [1, 2, 3])
    weights, state = copy.deepcopy(named), copy.deepcopy(optimizer.state_dict())
    assert set(optimizer.state) == set(named.values())
    assert all(torch.is_tensor(value) for entry in optimizer.state.values() for value in entry.values())
    train(optimizer, named, [4, 5])

    resumed, groups = small_model(seed=9)
    for parameter_name, parameter in resumed.items():
        parameter.data.copy_(weights[parameter_name].data)
    again = build(name, groups, **options)
    again.load_state_dict(state)
    train(again, resumed, [4, 5])
    for parameter_name, parameter in named.items():
        assert torch.equal(parameter, resumed[parameter_name]), parameter_name


@pytest.mark.parametrize("name", ["adamw", "lion", "muon", "sgd"])
def test_a_parameter_without_gradient_stays(name):
    named, groups = small_model()
    optimizer = build(name, groups)
    before = named["up.weight"].clone()
    train(optimizer, {key: value for key, value in named.items() if key != "up.weight"}, [1])
    assert torch.equal(named["up.weight"], before)


def test_rates_follow_each_groups_scale():
    named, groups = small_model()
    optimizer = build("muon", groups, matrix_lr_scale=20.0, adjust="original")
    set_learning_rate(optimizer, 0.01)
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["names"]}
    assert rates["up.weight"] == pytest.approx(0.2) and rates["embed.weight"] == pytest.approx(0.01)

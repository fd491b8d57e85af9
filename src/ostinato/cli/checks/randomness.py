"""Global random state: a draw from it depends on every draw before, so no step could be repeated by itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ostinato.cli.checks.project import Finding, Project, matches

ALLOWED_FILES = ["*/core/seeding.py"]  # a project's own: [tool.ostinato.lint] global_random_state
OWN_STATE = {
    "random": {"Random", "SystemRandom"},
    "numpy.random": {
        *("default_rng", "Generator", "BitGenerator", "SeedSequence", "RandomState"),
        *("PCG64", "PCG64DXSM", "Philox", "SFC64", "MT19937"),
    },
}
TORCH = {"manual_seed", "manual_seed_all", "seed", "seed_all", "set_rng_state", "set_rng_state_all"}
TORCH_MODULES = {"torch", "torch.random", "torch.cuda", "torch.cuda.random", "torch.mps", "torch.xpu"}
NEED_A_SEED = {"random.Random", "numpy.random.default_rng", "numpy.random.RandomState"}
REMEDY = "Draw from a generator of your own, seeded with ostinato.core.seeding.key(seed, purpose, step)."


def randomness(project: Project) -> Iterator[Finding]:
    """Uses of the global generators of Python, NumPy and torch in the code of packages and scripts."""
    allowed = ALLOWED_FILES + project.settings.get("global_random_state", [])
    sources = {module.file for module in project.modules} | {f for f in project.trees if f.startswith("scripts/")}
    for file, tree in project.trees.items():
        if file in sources and isinstance(tree, ast.Module) and not matches(file, allowed):
            yield from (Finding(file, line, "random-state", message) for line, message in sorted(uses(tree)))


def uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) for every use in one file."""
    names: dict[str, str] = {}  # local name -> what it is bound to, dotted
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            name = dotted(node, names)
            if name and is_global(name):
                yield node.lineno, f"{name} uses the global generator. {REMEDY}"
        elif isinstance(node, ast.Call) and not node.args and not node.keywords:
            name = dotted(node.func, names)
            if name in NEED_A_SEED:
                yield node.lineno, f"{name}() without a seed draws other numbers in every run. {REMEDY}"


def dotted(node: ast.expr, names: dict[str, str]) -> str | None:
    """`np.random.seed` -> "numpy.random.seed", given what the file's imports bound; None for anything else."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and (start := dotted(node.value, names)):
        return f"{start}.{node.attr}"
    return None


def is_global(name: str) -> bool:
    """Whether a dotted name is a function of a module-wide generator."""
    module, _, function = name.rpartition(".")
    if module in OWN_STATE:
        return function not in OWN_STATE[module]
    return module in TORCH_MODULES and function in TORCH

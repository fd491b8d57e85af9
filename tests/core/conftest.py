"""Small projects on disk, and their configs loaded from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ostinato.core.config import Config, ConfigError, load_config

B = "training: {learning_rate: 3e-4, total_steps: 10}\nexperiment: {tags: [a, b]}\n"


class Project:
    """A folder of files, which is the working directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, **files: str) -> Project:
        """Write files: `b` is b.yaml, `sub__c` is sub/c.yaml, `lab_py` is lab.py."""
        for name, text in files.items():
            name = name.replace("__", "/")
            path = self.folder / (f"{name[:-3]}.py" if name.endswith("_py") else f"{name}.yaml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return self

    def load(self, name: str = "c.yaml", *overrides: str, environ: Mapping[str, str] | None = None) -> Config:
        """Load a file of the project."""
        return load_config(name, overrides, environ or {})

    def mistakes(self, name: str = "c.yaml", *overrides: str, environ: Mapping[str, str] | None = None) -> list[str]:
        """The mistakes of a file, as reported."""
        with pytest.raises(ConfigError) as caught:
            self.load(name, *overrides, environ=environ)
        return [str(mistake) for mistake in caught.value.mistakes]

    def chain(self, key: str, name: str = "c.yaml", *overrides: str) -> list[tuple]:
        """The chain of a key as (value, kind, file, line)."""
        steps = self.load(name, *overrides).loaded.origins.explain(key)
        return [(step["value"], step["kind"], step["file"], step["line"]) for step in steps]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project, with b.yaml of the specification in it."""
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path).write(b=B)


@pytest.fixture
def fails(project: Project) -> Callable[..., list[str]]:
    """The mistakes of one file's text."""

    def mistakes(text: str, *overrides: str, environ: Mapping[str, str] | None = None) -> list[str]:
        return project.write(c=text).mistakes("c.yaml", *overrides, environ=environ)

    return mistakes

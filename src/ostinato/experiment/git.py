"""Git by plumbing commands alone: no filters, no hooks, no settings of the user where they could change bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ALWAYS = ("safe.directory=*", "core.fsmonitor=false", "core.protectNTFS=false", "core.protectHFS=false")
WHO = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "ostinato"), ("EMAIL", "ostinato@localhost"), ("DATE", "2000-01-01T00:00:00+0000"))
}


class GitFailed(Exception):
    """A git command did not do what it should; the message is git's."""


def has_git() -> bool:
    """Whether there is a git command."""
    return shutil.which("git") is not None


def git(folder: Path, *arguments: str, data: bytes | None = None, variables: Mapping[str, str] | None = None) -> bytes:
    """Run git in `folder` with all GIT_* variables cleared but `variables`; its output, or GitFailed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environ |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(variables or {})}
    settings = [word for setting in ALWAYS for word in ("-c", setting)]
    done = subprocess.run(
        ["git", *settings, *arguments], cwd=folder, env=environ, input=data or b"", capture_output=True
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise GitFailed(f"git {arguments[0]}: {said or f'exit code {done.returncode}'}")
    return done.stdout


def ask(folder: Path, *arguments: str) -> str | None:
    """Git's answer about a repository; None if it has none."""
    try:
        return os.fsdecode(git(folder, *arguments)).strip() or None
    except (GitFailed, OSError):
        return None


@dataclass(frozen=True)
class WorkTree:
    """A git work tree: its root, where its objects are, and whether they are named by sha1 or sha256."""

    root: Path
    objects: Path
    form: str


def work_tree(folder: Path) -> WorkTree | None:
    """The git work tree that holds `folder`."""
    answer = ask(folder, "rev-parse", "--show-toplevel", "--show-object-format", "--git-path", "objects")
    if answer is None or answer.count("\n") != 2:
        return None
    root, form, objects = answer.split("\n")
    return WorkTree(Path(root), (folder / objects).resolve(), form)


class PrivateRepository:
    """A bare repository in a temporary folder, free of all settings, that may borrow another one's objects."""

    def __init__(self, folder: Path, form: str = "sha1", borrow: Path | None = None) -> None:
        self.folder = folder
        free = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, **WHO}
        options = ("--quiet", "--bare", "--template=", f"--object-format={form}")
        git(folder.parent, "init", *options, str(folder), variables=free)
        self.variables = {"GIT_DIR": str(folder), **free}
        if borrow:
            self.variables["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = f'"{borrow}"' if ":" in str(borrow) else str(borrow)

    def git(self, *arguments: str, data: bytes | None = None, **variables: str) -> bytes:
        """Run git on this repository."""
        return git(self.folder, *arguments, data=data, variables=self.variables | variables)

    def line(self, *arguments: str, data: bytes | None = None) -> str:
        """The answer's one line."""
        return self.git(*arguments, data=data).decode().strip()


def quoted(path: bytes) -> bytes:
    """A path as commands that read one path a line want it: quoted as in C if it holds what would end or start one."""
    if not path.startswith(b'"') and b"\n" not in path and b"\r" not in path:
        return path
    for plain, escaped in ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\r", b"\\r")):
        path = path.replace(plain, escaped)
    return b'"' + path + b'"'


def split_nul(output: bytes) -> list[bytes]:
    """The parts of a `-z` output."""
    return [part for part in output.split(b"\0") if part]


def list_files(folder: Path, *which: str, variables: Mapping[str, str] | None = None) -> list[bytes]:
    """`git ls-files -z` with more options, relative to `folder`."""
    return split_nul(git(folder, "ls-files", "-z", *which, variables=variables))

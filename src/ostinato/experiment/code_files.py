"""Which files are the code of a run: tracked and untracked, not ignored, not secret, not too large."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ostinato.core.manifest import hash_file
from ostinato.experiment.git import PrivateRepository, list_files
from ostinato.experiment.secrets import TOKEN_FORMATS

MIB = 1024**2
LARGEST_UNTRACKED = 10 * MIB
LARGEST_TOTAL = 200 * MIB
SECRET_FILES = [".env", ".env.*", "*.pem", "*.key", "id_rsa*", "id_ed25519*", ".netrc"]
SECRET_FILES += ["credentials", "credentials.json"]
NOT_CODE = ("__pycache__/", ".venv/", "venv/", "node_modules/", "*.egg-info/")  # left out where no .gitignore says so


@dataclass
class Listing:
    """What is to be captured below a root: path -> whether git tracks it; and what is not, with the reason."""

    files: dict[bytes, bool] = field(default_factory=dict)
    skipped: list[dict[str, Any]] = field(default_factory=list)

    def skip(self, root: Path, path: bytes, reason: str) -> None:
        """Leave a file out, and say so."""
        full = Path(os.fsdecode(os.path.join(os.fsencode(root), path)))
        name = path.decode(errors="backslashreplace")
        entry: dict[str, Any] = {"path": name, "bytes": full.stat().st_size, "reason": reason}
        if reason == "too large":
            entry["xxh3"] = hash_file(full)
        self.skipped.append(entry)


def list_code(root: Path, outside: PrivateRepository | None, excluded: Path | None) -> Listing:
    """The code below a git work tree, or, given a repository of ours from `outside`, below any folder."""
    listing, total = Listing(), 0
    for path, tracked in _paths(root, outside):
        full = os.path.join(os.fsencode(root), path)
        try:
            info = os.lstat(full)
        except OSError:
            continue  # deleted, but still in the index
        if excluded and Path(os.fsdecode(full)).is_relative_to(excluded):
            continue
        if not (stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode)):
            continue
        if stat.S_ISREG(info.st_mode):
            if not tracked and (reason := _secret(full, info.st_size)):
                listing.skip(root, path, reason)
                continue
            if (not tracked and info.st_size > LARGEST_UNTRACKED) or total + info.st_size > LARGEST_TOTAL:
                listing.skip(root, path, "too large")
                continue
            if not os.access(full, os.R_OK):
                listing.skip(root, path, "not readable")
                continue
        total += info.st_size
        listing.files[path] = tracked
    return listing


def _paths(root: Path, outside: PrivateRepository | None, prefix: bytes = b"") -> list[tuple[bytes, bool]]:
    """Tracked and untracked but not ignored paths, those of submodules and nested repositories below their path."""
    if outside is not None:
        here = {**outside.variables, "GIT_WORK_TREE": str(root)}
        left_out = [f"--exclude={pattern}" for pattern in NOT_CODE]
        others = list_files(root, "--others", "--exclude-standard", *left_out, variables=here)
        found = [(path, False) for path in others]
    else:
        found = [(path, True) for path in list_files(root, "--cached")]
        found += [(path, False) for path in list_files(root, "--others", "--exclude-standard")]
    paths: dict[bytes, bool] = {}
    for path, tracked in found:
        full = Path(os.fsdecode(os.path.join(os.fsencode(root), path)))
        if full.is_dir() and not full.is_symlink():
            if (full / ".git").exists():
                paths.update(_paths(full, None, prefix + path.rstrip(b"/") + b"/"))
        else:
            paths.setdefault(prefix + path, tracked)
    return sorted(paths.items(), key=lambda item: (not item[1], item[0]))


def _secret(full: bytes, size: int) -> str | None:
    path = Path(os.fsdecode(full))
    if any(path.match(pattern) for pattern in SECRET_FILES):
        return "secret by its name"
    if size > LARGEST_UNTRACKED:
        return None
    try:
        data = path.read_bytes()
    except OSError:
        return None
    is_text = b"\0" not in data[:8192]
    return "holds a token" if is_text and TOKEN_FORMATS.search(data.decode("latin-1")) else None

"""Repositories of the Hugging Face hub: one commit of one, its files fetched into the hub's own cache.

Without a connection (or with HF_HUB_OFFLINE=1) what that cache holds is used, where it is all that is asked for.
"""

from __future__ import annotations

import glob
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ostinato.core.errors import UserError

Kind = Literal["model", "dataset"]


class Repository:
    """A repository at a commit. `revision` is a branch, a tag or a commit; None: the main branch as it is now.

    Raises UserError for a repository or revision that is not there or not to be had, and without `huggingface_hub`.
    """

    def __init__(self, name: str, revision: str | None, kind: Kind) -> None:
        self.name, self._revision, self._kind = name, revision, kind
        self._hub = _load()
        self.commit: str = self._download(revision, []).name
        """The 40 digits that `revision` stands for."""

    @property
    def origin(self) -> str:
        """hub:ORG/NAME@COMMIT, for a run's record."""
        return f"hub:{self.name}@{self.commit}"

    @cached_property
    def files(self) -> list[str]:
        """All that the commit holds; where nobody can say without a connection, what of it is in the cache."""
        from huggingface_hub import errors

        if known := getattr(self._hub, "get_cached_repo_tree", None):  # since 1.0
            with suppress(errors.CachedRepoTreeNotFoundError):
                return sorted(file.path for file in known(self.name, repo_type=self._kind, revision=self.commit))
        try:
            return sorted(self._hub.HfApi().list_repo_files(self.name, revision=self.commit, repo_type=self._kind))
        except Exception:  # which one says that there is no connection depends on the version of huggingface_hub
            folder = self._download(self.commit, [])
            return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())

    def fetch(self, names: list[str]) -> Path:
        """The folder of the commit, with these files in it at least."""
        folder = self._download(self.commit, names)
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise self._not_to_be_had(f"{missing[0]} is not in the cache ({folder})")
        return folder

    def _download(self, revision: str | None, names: list[str]) -> Path:
        from huggingface_hub import errors

        patterns = [glob.escape(name) for name in names]
        try:
            found = self._hub.snapshot_download(
                self.name, revision=revision, repo_type=self._kind, allow_patterns=patterns
            )
        except errors.HFValidationError as error:
            raise UserError(f"hub:{self.name}: not the name of a repository: {error}. Write ORG/NAME.") from error
        except errors.RevisionNotFoundError as error:
            raise UserError(f"hub:{self.name}: has no revision {revision}. Correct it.") from error
        except errors.RepositoryNotFoundError as error:  # GatedRepoError is one
            what = f"hub:{self.name}: there is no {self._kind} of that name that you may read"
            raise UserError(f"{what}. Correct it, or log in: hf auth login.") from error
        except errors.HfHubHTTPError as error:
            raise UserError(f"hub:{self.name}: the hub answers: {str(error).splitlines()[0]}") from error
        except errors.LocalEntryNotFoundError as error:
            raise self._not_to_be_had(f"not in the cache{f' at {revision}' if revision else ''}") from error
        return Path(found)

    def _not_to_be_had(self, what: str) -> UserError:
        return UserError(
            f"hub:{self.name}: {what}, and the hub cannot be reached. Connect once, so that it is fetched "
            "(without HF_HUB_OFFLINE), or copy the hub's cache ($HF_HOME) from a machine that has it."
        )


def _load() -> Any:
    try:
        import huggingface_hub
    except ModuleNotFoundError:
        raise UserError("the hub needs huggingface_hub. Install it: pip install 'ostinato[hf]'.") from None
    return huggingface_hub

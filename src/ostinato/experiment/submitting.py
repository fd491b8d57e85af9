"""A folder of what is submitted to run later: the code of this moment, configs, logs. A sweep's, or a job's."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ostinato.core.errors import UserError
from ostinato.core.manifest import fsync_folder, write_json
from ostinato.experiment.status import utc_now
from ostinato.experiment.submission import RECORD, capture_code, check_restored, read_submission, restore_code


def open_submission(path: Path, plugins: Sequence[str]) -> dict[str, Any]:
    """The record of the submission in `path`, made whole under a private name if it is not there.

    Raises UserError where it cannot be made, RefusedError where its code is no longer what was submitted.
    """
    if not path.exists():
        new = path.with_name(f".new-{uuid.uuid4().hex}")
        try:
            (new / "configs").mkdir(parents=True)
            (new / "logs").mkdir()
            captured = capture_code(new, plugins, path.parent)
            identity = f"{utc_now().replace('-', '').replace(':', '')}-{uuid.uuid4().hex[:8]}"
            record = {"version": 1, "id": identity, "created": utc_now(), "command": sys.argv, **captured}
            restore_code(new, record)
            write_json(new / RECORD, record)
            os.rename(new, path)
            fsync_folder(path.parent)
        except OSError as error:
            if not path.exists():  # else another one was quicker, and its code counts
                raise UserError(f"{error.filename or path}: nothing can be submitted from here: {error}.") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
    submission = read_submission(path)
    check_restored(path, submission)
    return submission

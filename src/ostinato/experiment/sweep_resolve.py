"""Resolves and checks the configs of a sweep, in a process of its own, so that it is the submitted code that checks.

Reads {config, submitted_from, project, children: [[KEY=VALUE, ...], ...]} from stdin; writes {mistakes: [text],
children: [{science, yaml}]}, or with mistakes no children, to the file that it is given.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from ostinato.core.config import Config, ConfigError, load_config
from ostinato.core.errors import OstinatoError
from ostinato.experiment.secrets import leaves, refuse_secrets


def resolve(request: dict[str, Any]) -> dict[str, Any]:
    """Every child as `config check` does, with the mistakes of all."""
    mistakes: dict[str, None] = {}
    children = []
    for overrides in request["children"]:
        try:
            config = load_config(request["config"], overrides, complete=True)
            refuse_secrets(config.to_dict())
            mistakes.update(dict.fromkeys(outside(config, Path(request["submitted_from"]), request["project"])))
            children.append({"science": config.science_hash, "yaml": config.to_yaml()})
        except ConfigError as error:
            mistakes.update(dict.fromkeys(map(str, error.mistakes)))
        except OstinatoError as error:
            mistakes[str(error)] = None
    return {"mistakes": list(mistakes), "children": [] if mistakes else children}


def outside(config: Config, submitted_from: Path, project: str | None) -> list[str]:
    """Relative paths that lead out of the project: from its restored copy they would lead nowhere."""
    return [
        f"{key}: {value} lies outside the project, whose code is run from a copy. Write {path}."
        for key, value in leaves(config.to_dict())
        if project and isinstance(value, str) and os.pardir in Path(value).parts
        if not (path := Path(os.path.normpath(submitted_from / value))).is_relative_to(project) and path.exists()
    ]


if __name__ == "__main__":
    answer = json.dumps(resolve(json.load(sys.stdin)))
    Path(sys.argv[1]).write_text(answer, "utf-8")

"""What only `check` and `train` insist on: completeness, and that plugins and chosen components can be imported."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostinato.core.catalog import PACKAGE, Found, NoPlugin, entry_point_plugins, plugin_files, shown
from ostinato.core.merged import Merged
from ostinato.core.mistakes import NOWHERE, Mistakes, Place
from ostinato.core.nodes import Sequence
from ostinato.core.registry import REGISTRIES, import_module
from ostinato.core.resolve import Resolver
from ostinato.core.signatures import signature_of


def check_complete(plain: Mapping[str, Any], resolver: Resolver, mistakes: Mistakes) -> None:
    """Note every required value that is not set."""
    if mistakes.unread:
        return  # the file that could not be read may set it
    for place, key, message in resolver.missing:
        mistakes.add(place, key, f"required and not set: {message}")
    algorithm, model = plain["algorithm"], plain["model"]
    children = resolver.root.children or {}
    if isinstance(algorithm, dict) and algorithm["name"] is None:
        place = children["algorithm"].place if "algorithm" in children else NOWHERE
        mistakes.add(place, "algorithm.name", "required and not set: the method. Write algorithm: {name: ...}.")
    if isinstance(model, dict) and model["name"] is None and model["init_from"] is None:
        place = children["model"].place if "model" in children else NOWHERE
        text = "required and not set, since model.init_from is null. Write model: {name: ...}."
        mistakes.add(place, "model.name", text)


def check_imports(root: Merged, resolver: Resolver, mistakes: Mistakes) -> None:
    """Import the plugins and the chosen components; both readings of a signature must agree."""
    warn_of_entry_points()
    broken = _plugins(root, mistakes)
    failures: dict[str, list[tuple[Place, str, str, str]]] = {}  # one cause may keep several components away
    for path, (found, place) in resolver.named.items():
        if found.plugin in broken:
            continue
        key = f"{path}.{'strategy' if found.kind == 'STRATEGIES' else 'name'}"
        owner = f"{found.name!r} of plugin {found.plugin}" if found.plugin else repr(found.name)
        name = f"{owner} ({found.origin})"
        try:
            import_module(found.module)
        except (Exception, SystemExit) as error:
            cause = f"{type(error).__name__}: {error}"
            failures.setdefault(cause, []).append((place, key, name, _where(error, found)))
            continue
        if (difference := _difference(found)) is not None:
            text = f"{name}: its source text and the imported object disagree: {difference}. Register it literally."
            mistakes.add(place, key, text)
    for cause, components in failures.items():
        components.sort(key=lambda item: item[0] == NOWHERE)  # first what the config names itself
        place, key, name, where = components[0]
        others = [f"the same for {other_key}: {other}" for _, other_key, other, _ in components[1:]]
        mistakes.add(place, key, f"{name} could not be imported: {cause} ({where})", *others)


def warn_of_entry_points() -> None:
    """Say on stderr which plugins installed packages announce that are not there."""
    for name in entry_point_plugins():
        try:
            plugin_files(name)
        except NoPlugin as error:
            print(f"warning: the plugin {name}, announced by an installed package: {error}", file=sys.stderr)


def _plugins(root: Merged, mistakes: Mistakes) -> set[str]:
    broken = set()
    node = ((root.children or {}).get("plugins") or Merged("")).node
    for item in node.items if isinstance(node, Sequence) else []:
        name = item.text if hasattr(item, "text") else ""
        try:
            files = [file for file, _ in plugin_files(name)]
        except NoPlugin as error:
            mistakes.add(item.place, "plugins", f"{name} could not be found: {error}. Install it or correct the name.")
            broken.add(name)
            continue
        try:
            import_module(name)
        except (Exception, SystemExit) as error:
            folder = files[0].parent if files else PACKAGE
            frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(folder))]
            where = f" ({_syntax(error) or _frame(frames)})" if frames or _syntax(error) else ""
            mistakes.add(item.place, "plugins", f"{name} could not be imported: {type(error).__name__}: {error}{where}")
            broken.add(name)
    return broken


def _where(error: BaseException, found: Found) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(found.path)]
    return _syntax(error) or (_frame(frames) if frames else found.origin)


def _frame(frames: list[traceback.FrameSummary]) -> str:
    return f"{shown(Path(frames[-1].filename))}:{frames[-1].lineno}"


def _syntax(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shown(Path(error.filename))}:{error.lineno}"
    return ""


def _difference(found: Found) -> str | None:
    target = REGISTRIES[found.kind].objects.get(found.name)
    if target is None:
        return "importing the module does not register it"
    live = signature_of(target)
    if list(live) != list(found.options):
        return f"options {', '.join(live) or 'none'} against {', '.join(found.options) or 'none'}"
    for name, option in found.options.items():
        other = live[name]
        if (option.type, option.default) != (other.type, other.default):
            return f"{name}: {option.type} = {option.default!r} against {other.type} = {other.default!r}"
    return None

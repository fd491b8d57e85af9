"""The eleven registries: components by name, imported when they are first asked for."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ostinato.core.catalog import Catalog, shown
from ostinato.core.errors import UserError
from ostinato.core.fields import fields_of
from ostinato.core.mistakes import ConfigError, Mistake, nearest
from ostinato.core.schema import Sections
from ostinato.core.signatures import BadSignature, refuse_names, signature_of, thaw

NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
REGISTRIES: dict[str, Registry] = {}
ACTIVE_PLUGINS: list[str] = []  # of the config that was loaded last


class RegistrationError(UserError):
    """A component that its registry refuses, with file:line."""


def catalog(plugins: tuple[str, ...] = ()) -> Catalog:
    """The components of ostinato and of these plugins."""
    return Catalog({kind: registry.home for kind, registry in REGISTRIES.items()}, plugins)


class Registry:
    """Components of one kind.

    `home` is where ostinato's own live, below the package: a folder, where file name = registered name, or one
    module. `base` is the class ("module:Name") that each must subclass; `methods` are those a class must have;
    `common` are the fields of a config node that are not options; `reserved` names may not be taken.
    """

    def __init__(
        self,
        kind: str,
        home: str,
        *,
        base: str = "",
        methods: tuple[str, ...] = (),
        common: tuple[str, ...] = (),
        reserved: Iterable[str] = (),
    ) -> None:
        self.kind, self.home, self.base, self.methods, self.common = kind, home, base, methods, ("name", *common)
        self.reserved = frozenset(reserved)
        self.objects: dict[str, Any] = {}
        self.places: dict[str, str] = {}
        REGISTRIES[kind] = self

    def register(self, name: str) -> Any:
        """Decorator of a class or function; the name is a literal, so that it can be found without an import."""
        frame = sys._getframe(1)
        place = f"{shown(Path(frame.f_code.co_filename))}:{frame.f_lineno}"

        def decorate(target: Any) -> Any:
            self._accept(name, target, place)
            self.objects[name], self.places[name] = target, place
            return target

        return decorate

    def _accept(self, name: str, target: Any, place: str) -> None:
        def refuse(reason: str) -> RegistrationError:
            return RegistrationError(f"{place}  {self.kind}: {name!r} cannot be registered: {reason}")

        if not NAME.match(name):
            raise refuse("a name is lower-case letters, digits and _, beginning with a letter.")
        old = self.objects.get(name)
        if old is not None and (old.__module__, old.__qualname__) != (target.__module__, target.__qualname__):
            raise refuse(f"{self.places[name]} has that name. Rename one.")
        try:
            self.refuse_reserved(name)
            refuse_names(signature_of(target).values(), self.common)
        except BadSignature as error:
            raise refuse(str(error)) from None
        if self.base and not _is_a(target, self.base):
            raise refuse(f"it is no subclass of {self.base.split(':')[1]}. Subclass it ({self.base.split(':')[0]}).")
        missing = [method for method in self.methods if not _has(target, method)]
        if missing and inspect.isclass(target):
            raise refuse(f"the class has no {', '.join(missing)}. Define {'it' if len(missing) == 1 else 'them'}.")

    def refuse_reserved(self, name: str) -> None:
        """Raise BadSignature for a name that would be mistaken for something else."""
        if name in self.reserved:
            raise BadSignature(f"{name} is a section of every config. Choose another name.")

    def get(self, name: str | None) -> Any:
        """The class or function of that name; only the module that holds it is imported."""
        if name is None:
            raise UserError(f"{self.kind}: no name is given.")
        if name not in self.objects:
            found = catalog(tuple(ACTIVE_PLUGINS)).find(self.kind, name)
            if not found:
                raise UserError(self.unknown(name))
            if len(found) > 1:
                raise UserError(
                    f"{name!r} is registered twice in {self.kind}: {found[0].origin} and {found[1].origin}."
                )
            import_module(found[0].module)
        return self.objects[name]

    def build(self, node: Any, *runtime: Any) -> Any:
        """Make the component of a config node; what its constructor refuses is a mistake at the node's place."""
        if node.name not in self.objects and node.module:
            import_module(node.module)
        target = self.get(node.name)
        types = signature_of(target)
        options = {name: thaw(value, types[name].type) for name, value in node.options.items() if name in types}
        try:
            return target(*runtime, **options)
        except ValueError as error:
            raise ConfigError([Mistake(node.place, node.key, f"{node.name}: {error}")]) from error

    def names(self) -> list[str]:
        """All names, found without importing anything."""
        return sorted({*self.objects, *catalog(tuple(ACTIVE_PLUGINS)).names(self.kind)})

    def origin(self, name: str) -> str:
        """`file:line` of the registration."""
        if name in self.places:
            return self.places[name]
        found = catalog(tuple(ACTIVE_PLUGINS)).find(self.kind, name)
        if not found:
            raise UserError(self.unknown(name))
        return found[0].origin

    def unknown(self, name: str) -> str:
        """The message for a name that is not here."""
        known = self.names()
        guess = nearest(name, known)
        hint = f" Did you mean {guess} ({self.origin(guess)})?" if guess else ""
        return f"{name!r} is not in {self.kind}.{hint} Known: {', '.join(known) or 'none'}."


def import_module(name: str) -> Any:
    """Import a component's module; the working directory is searched last."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    return importlib.import_module(name)


def _has(target: Any, method: str) -> bool:
    return any(method in base.__dict__ for base in getattr(target, "__mro__", ())[:-1])


def _is_a(target: Any, base: str) -> bool:
    module, name = base.split(":")
    return inspect.isclass(target) and any((c.__module__, c.__name__) == (module, name) for c in target.__mro__)


ALGORITHMS = Registry(
    "ALGORITHMS", "algorithms", base="ostinato.training.trainer:BaseTrainer", reserved=fields_of(Sections)
)
MODELS = Registry("MODELS", "models", common=("init_from", "adapter"))
FAMILIES = Registry("FAMILIES", "models/families", methods=("options", "config", "pieces"))
DATASETS = Registry("DATASETS", "data", methods=("__len__", "__getitem__"), common=("sources", "weight"))
LOSSES = Registry("LOSSES", "losses")
OPTIMIZERS = Registry("OPTIMIZERS", "training/optimizers.py")
SCHEDULERS = Registry("SCHEDULERS", "training/schedulers.py", common=("warmup_steps",))
REWARDS = Registry("REWARDS", "rewards", methods=("__call__",), common=("weight",))
STRATEGIES = Registry("STRATEGIES", "distributed", methods=("wrap_model", "backward"), common=("strategy",))
EVALUATORS = Registry("EVALUATORS", "evaluation")
TRACKERS = Registry("TRACKERS", "experiment/trackers", methods=("log", "close"))

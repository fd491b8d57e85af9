"""Old keys, moved to the new ones when a file (or `-o`) is read."""

from __future__ import annotations

from ostinato.core.mistakes import Mistakes
from ostinato.core.nodes import Entry, Map
from ostinato.core.schema import RENAMED, SECOND_SPELLINGS


def move_renamed(root: Map, mistakes: Mistakes) -> list[str]:
    """Move every old key of a layer; returns the warnings."""
    warnings = []
    for old, new in {**RENAMED, **SECOND_SPELLINGS}.items():
        section, key = old.split(".")
        holder = root.entries.get(section)
        if holder is None or not isinstance(holder.node, Map) or (entry := holder.node.entries.get(key)) is None:
            continue
        new_section, new_key = new.split(".")
        target = root.entries.get(new_section)
        if target is None:
            target = root.entries[new_section] = Entry(new_section, "", entry.place, Map({}, entry.place))
        if not isinstance(target.node, Map):
            continue  # what stands there instead is a mistake of its own
        del holder.node.entries[key]
        if (other := target.node.entries.get(new_key)) is not None:
            mistakes.add(entry.place, old, f"is now {new}, which {other.place.short} sets too. Keep one.")
            continue
        target.node.entries[new_key] = Entry(new_key, entry.operator, entry.place, entry.node)
        if old in RENAMED:
            warnings.append(f"warning: {entry.place}  {old} is now {new}")
    return warnings

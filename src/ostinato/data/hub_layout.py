"""Which files of a data repository are the rows of a subset's split: as its card says, else as their names say.

A card (README.md) begins with YAML whose `configs` list {config_name, data_files}; data_files are patterns, or
{split, path: patterns}. Without it, names tell: `data/train-00000-of-00002.parquet`, `subset/test/0000.parquet`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import yaml

from ostinato.core.errors import UserError

ENDINGS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    **{f"{ending}{packed}": "jsonl" for ending in (".jsonl", ".json") for packed in ("", ".gz", ".zst")},
}
ABOUT_DATA = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"}
"""JSON files that hold no rows."""
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
ONLY_SPLIT = "train"
"""What files are that name no split."""
WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
NUMBERED = re.compile(r"(?:(?P<split>.+)-)?(?P<number>\d{5})-of-(?P<count>\d{5})")


class DataFile(NamedTuple):
    """A file with the subset and the split that its name tells; empty where it tells none."""

    name: str
    subset: str
    split: str


def kind_of_file(name: str) -> str | None:
    """The dataset that reads such a file (jsonl, parquet, arrow); None for a file that holds no rows."""
    path = PurePosixPath(name)
    if path.name in ABOUT_DATA or any(part.startswith(".") for part in path.parts):
        return None
    return next((kind for ending, kind in ENDINGS.items() if path.name.endswith(ending)), None)


def card_configs(card: str) -> list[dict[str, Any]]:
    """The `configs` of a README.md; none where it has no YAML or none in it."""
    found = re.match(r"---\r?\n(.*?)\r?\n---", card, re.DOTALL)
    try:
        head = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return []  # the card of a stranger: the names of the files say enough
    configs = head.get("configs") if isinstance(head, Mapping) else None
    return [one for one in configs if isinstance(one, dict) and one.get("data_files")] if configs else []


def choose(names: Sequence[str], card: str, subset: str | None, split: str) -> list[str]:
    """The files of a subset's split, in order. Raises UserError where there are none, or several subsets."""
    configs = card_configs(card)
    files = _of_card(names, configs, subset) if configs else _of_names(names, subset)
    splits = sorted({file.split or ONLY_SPLIT for file in files})
    chosen = sorted(file.name for file in files if (file.split or ONLY_SPLIT) == split)
    if not chosen:
        raise UserError(f"no files of split {split!r}. Set the dataset's split: {', '.join(splits) or 'none there'}.")
    return chosen


def matching(names: Sequence[str], pattern: str) -> list[str]:
    """The names that a pattern fits: * and ? stay within a folder, ** does not."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    regex = "".join(WILD.get(part) or re.escape(part) for part in parts)
    regex = re.sub(r"\\\[(\d)\\-(\d)\\\]", r"[\1-\2]", regex)  # [0-9], the one set that cards use
    return sorted(name for name in names if re.fullmatch(regex, name))


def _of_card(names: Sequence[str], configs: list[dict[str, Any]], subset: str | None) -> list[DataFile]:
    by_name = {str(config.get("config_name", "default")): config for config in configs}
    default = next((name for name, config in by_name.items() if config.get("default")), None)
    if subset is None:
        subset = default or ("default" if "default" in by_name else next(iter(by_name)) if len(by_name) == 1 else None)
    if subset not in by_name:
        raise _which_subset(subset, sorted(by_name))
    files = by_name[subset]["data_files"]
    if isinstance(files, Mapping):
        files = [{"split": split, "path": path} for split, path in files.items()]
    found = []
    for entry in files if isinstance(files, list) else [files]:
        one = entry if isinstance(entry, Mapping) else {"path": entry}
        patterns = one.get("path") or []
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            found += [DataFile(name, subset, str(one.get("split", ""))) for name in matching(names, str(pattern))]
    return list(dict.fromkeys(found))


def _of_names(names: Sequence[str], subset: str | None) -> list[DataFile]:
    files = [_told_by_name(name) for name in names if kind_of_file(name)]
    if lines := [file for file in files if ".json" not in PurePosixPath(file.name).suffixes]:
        files = lines  # .json beside them is seldom rows
    if not files:
        script = any(name.endswith(".py") for name in names)
        told = "it has a loading script, which is never run: try revision: refs/convert/parquet" if script else ""
        raise UserError(f"no data files (parquet, jsonl, json, arrow). {told or 'Correct the path.'}")
    subsets = sorted({file.subset for file in files})
    if subset is None and len(subsets) == 1:
        return files
    if subset is None and "default" not in subsets:
        raise _which_subset(None, subsets)
    chosen = [file for file in files if file.subset == (subset or "default")]
    if not chosen:
        raise _which_subset(subset, subsets)
    return chosen


def _told_by_name(name: str) -> DataFile:
    """`subset/train/x.jsonl`, `subset/train-00000-of-00001.parquet`, `data/x_train.jsonl`, `train.jsonl`, ..."""
    *folders, file = PurePosixPath(name).parts
    stem = file.split(".")[0]
    numbered = NUMBERED.fullmatch(stem)
    split = (numbered["split"] or "") if numbered else ""
    kept = []
    for folder in folders:
        if folder in SPLIT_WORDS:
            split = split or SPLIT_WORDS[folder]
        elif folder != "data":
            kept.append(folder)
    split = SPLIT_WORDS.get(split, split)
    if not split:
        words = [word for word in re.split(r"[^a-z]+", stem.lower()) if word in SPLIT_WORDS]
        split = SPLIT_WORDS[words[0]] if words else ""
    return DataFile(name, "/".join(kept) or "default", split)


def _which_subset(given: str | None, known: list[str]) -> UserError:
    what = "which of its subsets is read is not said" if given is None else f"has no subset {given!r}"
    return UserError(f"{what}. Set the dataset's subset: {', '.join(known)}.")


def check_whole(names: Sequence[str]) -> None:
    """Raise UserError where files are numbered `-00000-of-00005` and some of the five are not there."""
    series: dict[str, set[int]] = {}
    for name in names:
        path = PurePosixPath(name)
        if found := NUMBERED.fullmatch(path.name.split(".")[0]):
            key = f"{path.parent}/{found['split'] or ''}-*-of-{found['count']}"
            series.setdefault(key, set()).add(int(found["number"]))
    for key, numbers in series.items():
        if missing := sorted(set(range(int(key[-5:]))) - numbers):
            raise UserError(f"of the files {key.removeprefix('./')}, number {missing[0]:05d} is not there.")

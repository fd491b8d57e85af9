"""Models of the hub: which files are fetched, the commit that is recorded and kept, and what is said when not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from ostinato.core.config import load_config
from ostinato.core.errors import UserError
from ostinato.training.weights import find_origin, find_weights
from tests.models.family_shapes import theirs

pytest.importorskip("transformers")
COMMIT, OTHER = "0123456789" * 4, "f" * 40


def lay_out(cache: Path, folder: Path, commit: str = COMMIT, branch: str = "main") -> None:
    """The files of `folder` as the hub's client leaves them in its cache."""
    root = cache / "models--org--tiny"
    for path in folder.iterdir():
        blob, link = root / "blobs" / f"{commit[:6]}-{path.name}", root / "snapshots" / commit / path.name
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(path.read_bytes())
        link.symlink_to(os.path.relpath(blob, link.parent))
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / branch).write_text(commit)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def model_folder(tmp_path: Path, **how: Any) -> Path:
    theirs("llama2").save_pretrained(tmp_path / "m", **how)
    return tmp_path / "m"


def test_a_commit_is_recorded_and_a_resumed_run_keeps_it(tmp_path: Path, offline: Path) -> None:
    folder = model_folder(tmp_path)
    lay_out(offline, folder)
    origin = find_weights("hub:org/tiny", tmp_path)
    assert origin.lineage == {"hub": f"hub:org/tiny@{COMMIT}", "checkpoint": COMMIT}
    assert origin.build("cpu").shape.layers == 3  # type: ignore[union-attr]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    lay_out(offline, folder, OTHER)  # the branch moves on
    assert find_weights("hub:org/tiny", tmp_path).lineage["checkpoint"] == OTHER
    assert find_weights(f"hub:org/tiny@{COMMIT}", tmp_path).lineage["checkpoint"] == COMMIT
    path = tmp_path / "c.yaml"
    path.write_text("model: {path: 'hub:org/tiny'}\nalgorithm: {name: sft}\n")
    found = find_origin(load_config(path), origin.lineage)
    assert found is not None and found.lineage == origin.lineage


def test_of_a_repository_only_what_is_read_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards that the index names, texts; no pickle, no code, no second set of weights."""
    import huggingface_hub

    folder, asked = model_folder(tmp_path, max_shard_size="40KB"), []
    for name in ("pytorch_model.bin", "modeling_x.py", "consolidated.safetensors", "README.md"):
        (folder / name).write_bytes(b"x")
    snapshot = tmp_path / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)

    def snapshot_download(name: str, *, revision: Any, repo_type: str, allow_patterns: list[str]) -> str:
        assert (name, repo_type) == ("org/tiny", "model") and revision in ("v1", COMMIT)
        asked.extend(allow_patterns)
        for path in folder.iterdir():
            if path.name in allow_patterns and not (snapshot / path.name).exists():
                (snapshot / path.name).write_bytes(path.read_bytes())
        return str(snapshot)

    class Api:
        def list_repo_files(self, *_: Any, **__: Any) -> list[str]:
            return [*(path.name for path in folder.iterdir()), "original/consolidated.00.pth", "onnx/model.safetensors"]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_cached_repo_tree", None, raising=False)
    origin = find_weights("hub:org/tiny@v1", tmp_path)
    assert origin.lineage["checkpoint"] == COMMIT
    shards = {path.name for path in folder.glob("model-*.safetensors")}
    texts = {"config.json", "generation_config.json", "model.safetensors.index.json"}
    assert len(shards) > 1 and set(asked) == shards | texts
    origin.build("cpu")


def test_what_cannot_be_had_is_said(tmp_path: Path, offline: Path) -> None:
    with pytest.raises(UserError, match=r"hub:org/none: not in the cache.*Connect once"):
        find_weights("hub:org/none", tmp_path)
    for name in ("hub:", "hub:a/b/c"):
        with pytest.raises(UserError, match="model.init_from: .*write hub:ORG/NAME"):
            find_weights(name, tmp_path)
    folder = model_folder(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    lay_out(offline, folder)
    with pytest.raises(UserError, match=r"no \*.safetensors file. pytorch_model.bin is a pickle"):
        find_weights("hub:org/tiny", tmp_path)
    with pytest.raises(UserError, match="org/tiny: .*v9"):
        find_weights("hub:org/tiny@v9", tmp_path)

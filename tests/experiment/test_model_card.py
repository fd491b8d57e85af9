"""The model card of a run: its tree, its base, its last evaluation, and nothing that breaks the page."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ostinato.core.errors import UserError
from ostinato.experiment.ancestry import ancestry, base_model
from ostinato.experiment.imported import create_imported
from ostinato.experiment.metrics import Metrics
from ostinato.experiment.model_card import CardFacts, escaped, model_card
from tests.experiment.making import start_run


def nothing(checkpoints: Path, run: Any) -> None:
    """Weights are not what is tested here."""


def bring(root: Path, name: str, hub: str) -> dict[str, Any]:
    """An imported model's record."""
    facts = {"imported": {"source": "hub:org/name@main", "hub": hub, "hash": "0" * 32}, "model": "transformer"}
    folder = create_imported(root, name, facts, nothing, ["ostinato", "import"])
    return json.loads((folder / "metadata.json").read_text())


def trained(folder: Path, name: str, parent: dict[str, Any] | None, *overrides: str) -> dict[str, Any]:
    """A finished run that began from another, its record."""
    run = start_run(folder, *overrides, name=name)
    began = parent and {"run": parent["name"], "id": parent["id"], "step": 3, "checkpoint": None}
    run.record(lineage={"init_from": began, "reproduces": None, "sweep": None})
    run.finish("completed")
    return dict(run.metadata)


def facts(**changed: Any) -> CardFacts:
    given = {"name": "m", "kind": "causal", "architecture": "LlamaForCausalLM", "parameters": 1234, "dtype": "float32"}
    return CardFacts(**{**given, "facts": {}, "notes": [], "chat": False, **changed})


def test_the_tree_of_a_run(tmp_path: Path) -> None:
    root = tmp_path / "experiments"
    base = bring(root, "base", "hub:org/name@abc123")
    sft = trained(tmp_path, "sft", base)
    judge = trained(tmp_path, "judge", sft)
    grpo = trained(tmp_path, "grpo", sft)
    pins = root / "judge" / "checkpoints" / "pins"
    pins.mkdir()
    (pins / f"{grpo['id']}-step_00000009.json").write_text("{}")
    lines = ancestry(root / "grpo", 7)
    assert [line.partition(" [")[0] for line in lines] == [
        "grpo @7",
        "  began from sft @3",
        "    began from base @3, imported from hub:org/name@abc123",
        "  needed judge @9",
        "    began from sft @3",
        "      began from base @3, imported from hub:org/name@abc123",
    ]
    assert base_model(root / "grpo") == base_model(root / "base") == "org/name"
    assert judge["name"] == "judge"


def test_parents_that_are_not_here(tmp_path: Path) -> None:
    """A run that is gone; a folder, whose place is nobody's business."""
    trained(tmp_path, "child", {"name": "gone", "id": "id-gone"})
    assert ancestry(tmp_path / "experiments" / "child", None) == ["child", "  began from gone @3 [its run is not here]"]
    run = start_run(tmp_path, name="other")
    (tmp_path / "a model").mkdir()
    run.record(lineage={"init_from": {"folder": str(tmp_path / "a model")}, "reproduces": None, "sweep": None})
    run.finish("completed")
    assert ancestry(run.folder, 1) == ["other @1", "  began from a model"]
    assert base_model(run.folder) is None and base_model(tmp_path / "experiments" / "child") is None


def test_a_model_of_a_hub(tmp_path: Path) -> None:
    run = start_run(tmp_path)
    began = {"hub": "hub:org/name@0123abcd", "checkpoint": "0123abcd"}
    run.record(lineage={"init_from": began, "reproduces": None, "sweep": None})
    run.finish("completed")
    assert ancestry(run.folder, 1) == ["exp001 @1", "  began from hub:org/name@0123abcd"]
    page = model_card(facts(), run.folder, 1, "1.0")
    assert yaml.safe_load(page.split("---\n")[1])["base_model"] == "org/name"


def test_a_ring_of_damaged_records_ends(tmp_path: Path) -> None:
    first = trained(tmp_path, "first", None)
    second = trained(tmp_path, "second", first)
    path = tmp_path / "experiments" / "first" / "metadata.json"
    began = {"run": "second", "id": second["id"], "step": 3}
    path.write_text(json.dumps({**first, "lineage": {"init_from": began}}))
    assert 2 <= len(ancestry(path.parent, 1)) < 5
    assert base_model(path.parent) is None


def test_the_last_evaluation_that_counts(tmp_path: Path) -> None:
    run = start_run(tmp_path)
    rows: list[dict[str, Any]] = [
        {"kind": "eval", "step": 2, "validation/loss": 2.0},
        {"kind": "eval", "step": 6, "validation/loss": 6.0},
        {"kind": "rewind", "step": 3},
        {"kind": "eval", "step": 4, "validation/loss": 4.0, "validation/items": [1, 2]},
        {"kind": "eval", "step": 8, "validation/loss": float("nan")},
    ]
    assert isinstance(run.metrics, Metrics)
    for row in rows:
        run.metrics.write(row)
    run.finish("completed")

    def told(step: int | None) -> str:
        return model_card(facts(), run.folder, step, "1.0").partition("## Evaluation, ")[2].partition("\n\n## ")[0]

    assert told(8) == "at step 8\n\n| metric | value |\n| --- | --- |\n| `validation/loss` | nan |"
    assert "at step 4" in told(7) and "| `validation/loss` | 4.0000 |" in told(7) and "items" not in told(7)
    assert "at step 2" in told(3) and told(1) == ""


def test_words_that_would_break_the_page(tmp_path: Path) -> None:
    run = start_run(tmp_path, "experiment.tags=['yes', 'a: b', 'ü', 'plain']")
    run.record(data={"plan": "p", "sources": [{"name": "a|b`c`<i>", "rows": 3, "used": 2, "fingerprint": "f"}]})
    run.finish("completed")
    page = model_card(facts(name="# *x* <b>", notes=["it | has <|end|>"]), run.folder, 1, "1.0")
    head = yaml.safe_load(page.split("---\n")[1])
    assert head["tags"] == ["ostinato", "pretrain", "yes", "a: b", "ü", "plain"]
    assert "# \\# \\*x\\* \\<b\\>\n" in page and "It \\| has \\<\\|end\\|\\>." in page
    assert "| a\\|b\\`c\\`\\<i\\> | 3 | 2 | `f` |" in page


def test_marks_of_markdown() -> None:
    assert escaped("`a|b`") == "`a\\|b`" and escaped("a|b`") == "a\\|b\\`"
    assert escaped("two\n lines\t_here_") == "two lines \\_here\\_"


@pytest.mark.parametrize(
    ("kind", "library", "task"),
    [
        ("causal", "transformers", "text-generation"),
        ("scores", "transformers", "text-classification"),
        ("adapter", "peft", "text-generation"),
        ("own", "ostinato", None),
    ],
)
def test_a_model_that_no_run_made(kind: str, library: str, task: str | None) -> None:
    page = model_card(facts(kind=kind, architecture=None), None, None, "1.0")
    head = yaml.safe_load(page.split("---\n")[1])
    assert (head["library_name"], head.get("pipeline_tag")) == (library, task)
    assert "## Lineage" not in page and "1,234" in page and page.endswith("\n") and "## How to load it" in page


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    def fails(checkpoints: Path, run: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="cannot be made here: No space left"):
        create_imported(tmp_path / "e", "n", {}, fails, [])
    assert list((tmp_path / "e").iterdir()) == []
    for name in ("", "../x", ".x", "a.sweep", "ü"):
        with pytest.raises(UserError, match="is no name for a run"):
            create_imported(tmp_path / "e", name, {}, nothing, [])

"""Data sets of the hub: which files are read, from a cache laid out as the hub's is, and what is said when not."""

import gzip
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import datasets
import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from ostinato.core.errors import UserError
from ostinato.core.hub import Repository
from ostinato.core.registry import DATASETS
from ostinato.data.fetched import pins
from ostinato.data.hub_layout import card_configs, check_whole, choose, matching

COMMIT, OTHER = "0123456789" * 4, "f" * 40
ROWS = [{"question": f"{i} + {i}?", "answer": str(2 * i)} for i in range(6)]
CARD = (
    "---\nlicense: mit\nconfigs:\n- config_name: main\n  data_files:\n  - {split: train, path: sums/t-*}\n---\n# Sums\n"
)


def jsonl(rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


FILES = {
    "README.md": CARD.encode(),
    "sums.py": b"raise SystemExit('a loading script was run')",
    "sums/t-0.jsonl": jsonl(ROWS[:4]),
    "sums/t-1.jsonl.gz": gzip.compress(jsonl(ROWS[4:])),
    "sums/u-0.jsonl": jsonl([{"question": "no", "answer": "no"}]),
}


def lay_out(hub, files, commit=COMMIT, branch="main", name="org/sums"):
    """A cache as the hub's client leaves it: content in blobs, a link to it in the snapshot, the branch in refs."""
    root = hub / ("datasets--" + name.replace("/", "--"))
    for number, (path, content) in enumerate(files.items()):
        blob, link = root / "blobs" / f"{commit[:8]}{number}", root / "snapshots" / commit / path
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / branch).write_text(commit)
    return root / "snapshots" / commit


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """The hub's cache, in a folder of the test's own, without a connection."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def hub(**options):
    return DATASETS.get("hub")(0, **{"path": "org/sums", **options})


def rows(source):
    return [source[index] for index in range(len(source))]


def test_the_cards_files_are_read_at_the_branchs_commit(offline):
    folder = lay_out(offline, FILES)
    source = hub()
    assert rows(source) == ROWS
    assert source.origin == f"hub:org/sums@{COMMIT}" and source.kind == "full"
    assert (
        source.place(1) == f"{folder / 'sums/t-0.jsonl'}:2" and source.place(5) == f"{folder / 'sums/t-1.jsonl.gz'}:2"
    )
    assert rows(hub(revision=COMMIT, columns={"prompt": "question"})) == [{"prompt": row["question"]} for row in ROWS]


def test_the_fingerprint_is_of_the_content(offline):
    lay_out(offline, FILES)
    lay_out(offline, FILES | {"README.md": CARD.encode() + b"more"}, OTHER, "tag")
    lay_out(offline, FILES | {"sums/t-0.jsonl": jsonl(ROWS[:3])}, "a" * 40, "less")
    first, same, less = (hub(revision=revision) for revision in (None, "tag", "less"))
    assert same.origin == f"hub:org/sums@{OTHER}"
    assert first.fingerprint == same.fingerprint != less.fingerprint


def test_saved_arrow_and_parquet(offline, tmp_path):
    whole = datasets.Dataset.from_list(ROWS)
    whole.to_parquet(tmp_path / "a.parquet")
    whole.select([2]).save_to_disk(tmp_path / "saved")
    files = {
        "data/train-00000-of-00001.parquet": (tmp_path / "a.parquet").read_bytes(),
        "data/test-00000-of-00001.arrow": (tmp_path / "saved" / "data-00000-of-00001.arrow").read_bytes(),
        "data/other.csv": b"a,b\n",
    }
    lay_out(offline, files)
    assert rows(hub()) == ROWS and rows(hub(split="test")) == [ROWS[2]]
    assert rows(hub(files="data/*.parquet")) == ROWS
    with pytest.raises(
        UserError, match=r"org/sums@0123.*: no files of split 'dev'\. Set the dataset's split: test, train"
    ):
        hub(split="dev")
    with pytest.raises(UserError, match=r"no data file matches \*\.csv\. There are data/test-.*arrow, data/train-"):
        hub(files="*.csv")
    with pytest.raises(UserError, match=r"arrow and parquet files\. Choose with .* files: '\*\*/\*\.arrow'"):
        hub(files="**")


def test_what_is_not_there_is_said(offline, monkeypatch):
    with pytest.raises(UserError, match=r"hub:org/sums: not in the cache, and the hub cannot be reached"):
        hub()
    folder = lay_out(offline, FILES)
    with pytest.raises(UserError, match=r"hub:org/sums: not in the cache at v2, and"):
        hub(revision="v2")
    with pytest.raises(UserError, match="not the name of a repository"):
        hub(path="a/b/c")
    (folder / "sums/t-0.jsonl").unlink()
    repository = Repository("org/sums", None, "dataset")
    with pytest.raises(UserError, match=r"sums/t-0.jsonl is not in the cache"):
        repository.fetch(["sums/t-0.jsonl"])
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'ostinato\[hf\]'"):
        hub()


def test_with_a_connection_only_what_is_read_is_fetched(tmp_path, monkeypatch):
    """What the client is asked for, without its network: the branch once, then everything at its commit."""
    asked = []

    def snapshot_download(name, *, revision, repo_type, allow_patterns):
        asked.append((revision, allow_patterns))
        assert (name, repo_type) == ("org/sums", "dataset")
        folder = tmp_path / COMMIT
        for file in allow_patterns:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(FILES[file])
        return str(folder)

    def list_repo_files(name, *, revision, repo_type):
        assert (name, revision, repo_type) == ("org/sums", COMMIT, "dataset")
        return list(FILES)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(list_repo_files=list_repo_files))
    assert rows(hub(revision="v1")) == ROWS
    assert asked == [("v1", []), (COMMIT, ["README.md"]), (COMMIT, ["sums/t-0.jsonl", "sums/t-1.jsonl.gz"])]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.RevisionNotFoundError, "hub:org/sums: has no revision v1"),
        (errors.RepositoryNotFoundError, "there is no dataset of that name that you may read. .*hf auth login"),
        (errors.GatedRepoError, "there is no dataset of that name that you may read. .*hf auth login"),
    ],
)
def test_the_hubs_refusals(monkeypatch, error, message):
    def refuse(*_, **__):
        raise error.__new__(error)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match=message):
        hub(revision="v1")


SHARDS = [f"data/train-0000{i}-of-00002.parquet" for i in range(2)]


@pytest.mark.parametrize(
    ("names", "subset", "split", "chosen"),
    [
        ([*SHARDS, "data/test-00000-of-00001.parquet"], None, "train", SHARDS),
        ([*SHARDS, "data/train_sft-00000-of-00001.parquet"], None, "train", SHARDS),
        (["data/train_sft-00000-of-00001.parquet"], None, "train_sft", ["data/train_sft-00000-of-00001.parquet"]),
        (["train.jsonl", "dev.jsonl", "dataset_infos.json"], None, "validation", ["dev.jsonl"]),
        (["train.jsonl", "dev.jsonl", "config.json"], None, "train", ["train.jsonl"]),
        (["alpaca.json"], None, "train", ["alpaca.json"]),
        (["socratic/train/0000.parquet", "main/train/0000.parquet"], "main", "train", ["main/train/0000.parquet"]),
        (["default/train/0000.parquet", "default/test/0000.parquet"], None, "train", ["default/train/0000.parquet"]),
        (["en/x_test.jsonl.zst", "en/x_train.jsonl.zst"], "en", "test", ["en/x_test.jsonl.zst"]),
        (["a-00000-of-00001.arrow", ".cache/b.arrow"], None, "a", ["a-00000-of-00001.arrow"]),
        (["part1.jsonl", "part2.jsonl"], None, "train", ["part1.jsonl", "part2.jsonl"]),
    ],
)
def test_names_tell(names, subset, split, chosen):
    assert choose(names, "", subset, split) == chosen


@pytest.mark.parametrize(
    ("names", "subset", "message"),
    [
        (["a/x.parquet", "b/x.parquet"], None, "which of its subsets is read is not said. Set .* subset: a, b"),
        (["a/x.parquet", "b/x.parquet"], "c", "has no subset 'c'. Set the dataset's subset: a, b"),
        (["README.md", "sums.py"], None, "a loading script, which is never run: try revision: refs/convert/parquet"),
        (["README.md"], None, "no data files"),
    ],
)
def test_what_names_do_not_tell(names, subset, message):
    with pytest.raises(UserError, match=message):
        choose(names, "", subset, "train")


def test_cards():
    names = ["a/1.parquet", "a/2.parquet", "b/x/1.parquet", "c.parquet", "b/y.txt"]
    configs = [
        {
            "config_name": "one",
            "data_files": [{"split": "train", "path": ["a/1*", "c.*"]}, {"split": "test", "path": "a/2*"}],
        },
        {"config_name": "two", "data_files": "b/**/*.parquet"},
    ]
    card = f"---\n{json.dumps({'configs': configs})}\n---\ntext"
    assert choose(names, card, "one", "train") == ["a/1.parquet", "c.parquet"]
    assert choose(names, card, "one", "test") == ["a/2.parquet"]
    assert choose(names, card, "two", "train") == ["b/x/1.parquet"]
    with pytest.raises(UserError, match="which of its subsets is read is not said. Set the dataset's subset: one, two"):
        choose(names, card, None, "train")
    configs[1]["default"] = True
    assert choose(names, f"---\n{json.dumps({'configs': configs})}\n---\n", None, "train") == ["b/x/1.parquet"]
    for odd in ("", "# no head", "---\n- a\n---\n", "---\na: [\n---\n", "---\nconfigs:\n---\n"):
        assert card_configs(odd) == []
    assert matching(["d/t-00000.x", "d/t-a.x", "d/e/t-00000.x"], "d/t-[0-9][0-9]*.x") == ["d/t-00000.x"]


def test_a_missing_shard_is_noticed():
    check_whole(SHARDS)
    with pytest.raises(UserError, match=r"of the files data/train-\*-of-00002, number 00001 is not there"):
        check_whole(SHARDS[:1])


@pytest.mark.slow
def test_a_run_offline_records_the_commit_and_keeps_it(tmp_path):
    """The whole command in a process of its own, as on a machine without a connection."""
    lay_out(tmp_path / "home" / "hub", FILES)
    config = {
        "algorithm": {"name": "sft"},
        "data": {"train": {"name": "hub", "path": "org/sums"}, "sequence_length": 128},
        "model": {"name": "transformer", "width": 16, "layers": 1, "heads": 2},
        "training": {"total_steps": 300, "batch_size": 2, "threads": 1},
    }
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    environment |= {"OSTINATO_CACHE": str(tmp_path / "cache")}

    def train(*more):
        command = [sys.executable, "-m", "ostinato", "train", "c.yaml", "--name", "first", *more]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
        )

    stopped, metrics = train(), tmp_path / "experiments" / "first" / "logs" / "metrics.jsonl"
    while stopped.poll() is None and not (metrics.exists() and metrics.read_text().count("\n")):
        time.sleep(0.01)
    stopped.terminate()
    said, _ = stopped.communicate()
    assert stopped.returncode == 75, said
    assert f"rows are question and answer, from hub:org/sums@{COMMIT}" in said
    (metadata,) = tmp_path.rglob("metadata.json")
    recorded = json.loads(metadata.read_text())["data"]
    assert recorded["origins"] == {"data.train": f"hub:org/sums@{COMMIT}"}
    assert recorded["sources"][0]["kind"] == "question and answer"
    lay_out(tmp_path / "home" / "hub", FILES | {"sums/t-0.jsonl": jsonl(ROWS[:3])}, OTHER)  # the branch moves on
    resumed = train("--resume")
    said = "".join(resumed.communicate())
    assert resumed.returncode == 0 and f"from hub:org/sums@{COMMIT}" in said, said
    new = train("--name", "second", "-o", "training.total_steps=1")
    assert f"from hub:org/sums@{OTHER}" in "".join(new.communicate())


def test_a_rerun_asks_for_the_recorded_commits():
    origins = {"data.train.sources.web": f"hub:org/web@{COMMIT}", "data.validation": "s3://x/y.parquet"}
    assert pins(origins) == [f"data.train.sources.web.revision={COMMIT}"]

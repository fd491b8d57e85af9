"""The code restores to the same bytes, modes and links, whatever is in the work tree and whatever git is set to."""

import os
import subprocess
from pathlib import Path

import pytest

from ostinato.experiment import code_files
from ostinato.experiment.git import git
from ostinato.experiment.provenance import Capture, code_roots
from ostinato.experiment.reading import read_json
from ostinato.experiment.run import Run
from ostinato.experiment.snapshot import REF, bundle_problem, take, write_bundle
from tests.experiment.making import config_of

TOKEN = "ghp_" + "a1B2" * 9


def run_git(folder, *arguments):
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "GIT_CONFIG_NOSYSTEM": "1"}
    who = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always")
    return subprocess.run(["git", *who, *arguments], cwd=folder, env=environ, check=True, capture_output=True).stdout


def awkward_tree(folder: Path) -> None:
    """Names, modes, links and bytes that a diff, an add or a checkout would change or lose."""
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "crlf.txt").write_bytes(b"one\r\ntwo\n")
    (folder / "binary.bin").write_bytes(bytes(range(256)))
    (folder / "empty").write_bytes(b"")
    (folder / "script.sh").write_text("#!/bin/sh\n")
    (folder / "script.sh").chmod(0o755)
    (folder / "link").symlink_to("sub/deep")
    (folder / "dangling").symlink_to("nowhere\nat all")
    (folder / "sub" / "deep" / 'quo"te').write_text("q")
    (folder / "sub" / "new\nline").write_text("n")
    (folder / "sub" / "back\\slash").write_text("b")
    (folder / "sub" / "carriage\r").write_text("c")
    (folder / '"first').write_text("f")
    with open(os.path.join(os.fsencode(folder), b"latin\xe9"), "wb") as file:
        file.write(b"not utf-8")
    (folder / ".gitattributes").write_text("*.txt text eol=lf filter=shout\n")
    (folder / ".gitignore").write_text("ignored\n")
    (folder / "ignored").write_text("not captured")


def repository(folder: Path) -> Path:
    """A repository with that tree half committed, settings that change bytes, and a nested repository."""
    folder.mkdir()
    run_git(folder, "init", "-q")
    run_git(folder, "config", "core.autocrlf", "true")
    run_git(folder, "config", "filter.shout.clean", "tr a-z A-Z")
    run_git(folder, "config", "remote.origin.url", "https://me:pa55@host/x.git")
    awkward_tree(folder)
    (folder / "gone.txt").write_text("deleted, but in the index")
    run_git(folder, "add", "crlf.txt", "gone.txt", "script.sh", ".gitattributes", ".gitignore", "sub")
    run_git(folder, "commit", "-q", "-m", "x")
    (folder / "gone.txt").unlink()
    (folder / "script.sh").write_text("#!/bin/sh\nexit 1\n")  # changed, not committed
    nested = folder / "nested"
    nested.mkdir()
    run_git(nested, "init", "-q")
    (nested / "inner.py").write_text("print(1)\n")
    run_git(nested, "add", "inner.py")
    (nested / "untracked.py").write_text("print(2)\n")
    return folder


def on_disk(folder: Path, *left_out: str) -> dict[bytes, tuple[str, bytes]]:
    """path -> (mode, bytes) of every file but git's own and those left out."""
    found = {}
    for base, folders, files in os.walk(os.fsencode(folder)):
        folders[:] = [name for name in folders if name != b".git" and not os.path.islink(os.path.join(base, name))]
        for name in [*files, *(n for n in os.listdir(base) if os.path.islink(os.path.join(base, n)))]:
            full = os.path.join(base, name)
            path = os.path.relpath(full, os.fsencode(folder))
            if os.fsdecode(path) in left_out:
                continue
            if os.path.islink(full):
                found[path] = ("120000", os.readlink(full))
            else:
                mode = "100755" if os.stat(full).st_mode & 0o100 else "100644"
                with open(full, "rb") as file:
                    found[path] = (mode, file.read())
    return found


def in_bundle(bundle: Path, scratch: Path) -> dict[bytes, tuple[str, bytes]]:
    """The same of a bundle, read by git alone."""
    run_git(scratch, "init", "-q", "--bare", "restored")
    restored = scratch / "restored"
    run_git(restored, "fetch", "-q", str(bundle), f"{REF}:{REF}")
    assert run_git(restored, "log", "--format=%P", REF).strip() == b""  # a single commit
    found = {}
    for entry in run_git(restored, "ls-tree", "-r", "-z", REF).split(b"\0")[:-1]:
        facts, path = entry.split(b"\t", 1)
        mode, _, name = facts.decode().split()
        found[path] = (mode, run_git(restored, "cat-file", "blob", name))
    return found


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("kind", ["git", "folder"])
def test_the_bundle_holds_exactly_the_work_tree(tmp_path, kind, monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # must not reach our commands
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere")
    root = tmp_path / "project"
    if kind == "git":
        repository(root)
    else:
        root.mkdir()
        awkward_tree(root)
    before = contents(root)
    snapshot = take(root, "project")
    write_bundle(snapshot, tmp_path / "code.bundle")
    tree = snapshot.record["tree"]
    snapshot.discard()
    assert contents(root) == before  # nothing of the user's is touched, .git included
    assert in_bundle(tmp_path / "code.bundle", tmp_path) == on_disk(root, "ignored")
    assert bundle_problem(tmp_path / "code.bundle", tree) is None
    assert snapshot.record["kind"] == kind
    assert snapshot.record["files"] == len(on_disk(root, "ignored"))
    if kind == "git":
        assert snapshot.record["commit"] == run_git(root, "rev-parse", "HEAD").decode().strip()
        assert snapshot.record["dirty"] is True
        assert snapshot.record["remote"] == "https://***@host/x.git"


def test_a_clean_work_tree_has_the_tree_of_its_commit(tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    run_git(root, "init", "-q")
    (root / "a.py").write_text("print(1)\n")
    run_git(root, "add", "-A")
    run_git(root, "commit", "-q", "-m", "x")
    snapshot = take(root, "project")
    snapshot.discard()
    assert snapshot.record["tree"] == run_git(root, "rev-parse", "HEAD^{tree}").decode().strip()
    assert snapshot.record["dirty"] is False


def test_secrets_and_large_files_are_left_out_and_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(code_files, "LARGEST_UNTRACKED", 1000)
    root = tmp_path / "project"
    root.mkdir()
    run_git(root, "init", "-q")
    (root / "tracked.bin").write_bytes(b"x" * 2000)
    run_git(root, "add", "tracked.bin")
    (root / "untracked.bin").write_bytes(b"x" * 2000)
    (root / ".env").write_text("A=1")
    (root / "server.pem").write_text("x")
    (root / "notes.txt").write_text(f"my token is {TOKEN}\n")
    (root / "main.py").write_text("print('sk-learn')\n")
    out = root / "experiments" / "exp001"
    out.mkdir(parents=True)
    (out / "metrics.jsonl").write_text("{}")
    snapshot = take(root, "project", excluded=root / "experiments")
    write_bundle(snapshot, tmp_path / "code.bundle")
    snapshot.discard()
    assert sorted(in_bundle(tmp_path / "code.bundle", tmp_path)) == [b"main.py", b"tracked.bin"]
    assert {entry["path"]: entry["reason"] for entry in snapshot.record["skipped"]} == {
        ".env": "secret by its name",
        "server.pem": "secret by its name",
        "notes.txt": "holds a token",
        "untracked.bin": "too large",
    }


def test_a_damaged_bundle_is_no_proof(tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    awkward_tree(root)
    snapshot = take(root, "project")
    bundle = tmp_path / "code.bundle"
    write_bundle(snapshot, bundle)
    assert bundle_problem(bundle, "0" * 40) is not None
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.chmod(0o644)
    bundle.write_bytes(data)
    assert bundle_problem(bundle, snapshot.record["tree"]) is not None
    snapshot.discard()


def test_the_code_of_a_run_is_hashed_before_it_starts_and_proved_when_it_ends(tmp_path, monkeypatch):
    root = repository(tmp_path / "project")
    monkeypatch.chdir(root)
    config = config_of(root, name="a")
    expected = on_disk(root, "ignored")
    run = Run.create(config, command=["ostinato", "train"])
    run.start()
    (root / "script.sh").write_text("edited after the start")
    run.finish("completed")
    [project, *rest] = run.metadata["code"]
    assert (project["role"], project["proved"]) == ("project", True)
    assert all(entry["role"] == "ostinato" for entry in rest)
    bundle = run.folder / "provenance" / project["bundle"]
    assert in_bundle(bundle, tmp_path) == expected
    assert read_json(run.folder / "provenance" / "segment_00000.json")["code"] == project["tree"]
    assert bundle.samefile(root / "experiments" / ".code" / bundle.name)  # shared by the runs of a root

    again = Run.create(config_of(root, "experiment.name=b"), command=["ostinato", "train"])
    again.start()
    again.finish("interrupted")
    resumed = Run.resume(again.folder)
    (root / "script.sh").write_text("edited again")
    resumed.start()
    resumed.finish("completed")
    assert len(read_json(again.folder / "metadata.json")["code"]) == 1 + len(rest)


def test_outside_any_project_the_record_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if any((parent / ".git").exists() for parent in tmp_path.parents):
        pytest.skip("the temporary folder is inside a repository")
    assert code_roots([])[0] == ("project", None)
    capture = Capture([], tmp_path)
    assert capture.wait_hashed()
    assert capture.code[0] == {"role": "project", "kind": "none", "root": str(tmp_path)}  # nothing is lost


def test_git_answers_without_the_users_variables(tmp_path, monkeypatch):
    root = tmp_path / "project"
    root.mkdir()
    run_git(root, "init", "-q")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git(root, "rev-parse", "--show-toplevel").decode().strip() == str(root.resolve())


def test_a_relative_output_root_takes_the_bundle_too(tmp_path, monkeypatch):
    monkeypatch.chdir(repository(tmp_path / "work"))
    config = config_of(tmp_path, "experiment.output_root=experiments")
    run = Run.create(config, command=["ostinato", "train", "c.yaml"])
    run.start()
    run.finish("completed")
    (project, *_) = read_json(Path("experiments/exp001/metadata.json"))["code"]
    assert project["proved"] is True
    assert bundle_problem(Path("experiments/exp001/provenance") / project["bundle"], project["tree"]) is None

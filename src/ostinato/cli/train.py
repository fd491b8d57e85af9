"""`ostinato train`: load and freeze the config, build, open the run, add the hooks, train, say what to type next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ostinato.core.errors import OstinatoError, UserError
from ostinato.core.stopping import StopFlag, die_with_launcher

if TYPE_CHECKING:
    from ostinato.core.config import Config


@click.command("train")
@click.argument("configs", nargs=-1, metavar="CONFIG...")
@click.option("-o", "overrides", multiple=True, metavar="KEY=VALUE", help="Set one value (repeatable).")
@click.option("--resume", is_flag=True, help="Go on with the run of that name, or start it if there is none.")
@click.option("--name", help="The run's name: -o experiment.name=NAME.")
@click.option("--sweep", type=click.Path(path_type=Path), hidden=True, help="The sweep whose child this run is.")
def command(
    configs: tuple[str, ...], overrides: tuple[str, ...], resume: bool, name: str | None, sweep: Path | None
) -> None:
    """Train. Several CONFIGs run one after the other; a later one may start from an earlier one's run
    (`model.init_from: run:NAME`)."""
    from ostinato.experiment.resuming import Completed

    stop, answer = StopFlag().install(), die_with_launcher()
    if name and len(configs) > 1:
        raise UserError("train: --name with several configs. Set experiment.name in each.")
    if name:
        overrides = (*overrides, f"experiment.name={name}")
    code = 1
    try:
        folders = []
        for path in configs or (None,):
            config, folder = requested(path, overrides, resume, name)
            try:
                folder = train_one(config, folder, overrides, stop, sweep)
            except Completed as done:
                print(done)
            folders.append(folder)
        report_chain([folder for folder in folders if folder is not None])
        code = 0
    except OstinatoError as error:
        code = error.exit_code
        raise
    finally:
        if answer is not None and is_main():
            answer.write_text(str(code))


def report_chain(folders: list[Path]) -> None:
    """One report of several runs that came one after the other."""
    from ostinato.cli.run_report import report_of

    if len(folders) > 1 and is_main() and (report := report_of(folders)) is not None:
        print(f"  all {len(folders)} runs      {report}", flush=True)


def requested(
    path: str | None, overrides: tuple[str, ...], resume: bool, name: str | None
) -> tuple[Config, Path | None]:
    """The config asked for, and the run folder to go on with (None: a new run)."""
    from ostinato.core.config import load_config

    if path is None:
        roots = [o.partition("=")[2] for o in overrides if o.startswith("experiment.output_root=")]
        folder = Path(roots[-1] if roots else "experiments") / (name or "")
        if not (resume and name):
            raise UserError("train: no config. Give one, or --resume --name NAME.")
        if not (folder / "config.yaml").is_file():
            raise UserError(f"train: there is no run {folder} to resume. Give its config to start it.")
        return load_config(folder / "config.yaml", rest_of(overrides)), folder
    config = load_config(path, overrides, complete=True)
    if not resume:
        return config, None
    if config.experiment.name is None:
        raise UserError("train: --resume needs the run's name: --name NAME, or experiment.name in the config.")
    folder = config.experiment.output_root / config.experiment.name
    return config, folder if folder.exists() else None


def is_main() -> bool:
    """Whether this process is rank 0, before any process group is made."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def rest_of(overrides: tuple[str, ...]) -> tuple[str, ...]:
    """The overrides that do not say which run is meant."""
    return tuple(o for o in overrides if not o.startswith(("experiment.name=", "experiment.output_root=")))


def recorded_threads(folder: Path) -> int | None:
    """The number of CPU threads that a run's last segment recorded: sums depend on it."""
    from ostinato.experiment.claims import newest_segment
    from ostinato.experiment.reading import read_or_empty

    file = newest_segment(folder)[1].get("environment_file") or "environment.json"
    return read_or_empty(folder / "provenance" / file).get("threads", {}).get("intra")


def train_one(
    config: Config, folder: Path | None, overrides: tuple[str, ...], stop: StopFlag, sweep: Path | None = None
) -> Path:
    """One run from start to end; returns its folder. As a child of a sweep it runs, and records, that one's code."""
    from ostinato.experiment.provenance import Capture
    from ostinato.experiment.submission import SubmittedCode
    from ostinato.training.numerics import prepare_environment

    prepare_environment()
    capture = None
    if is_main():  # beside torch's import
        capture = SubmittedCode(sweep) if sweep else Capture(config.plugins, config.experiment.output_root)
    from ostinato.cli.session import Session
    from ostinato.training.build import open_strategy

    strategy = open_strategy(config)
    try:
        threads = recorded_threads(folder) if folder else None
        return Session(config, strategy, stop, overrides, capture).run(folder, threads)
    finally:
        strategy.close()

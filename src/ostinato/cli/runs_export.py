"""`ostinato runs export`: sends what a run's files hold to a tracker, afterwards."""

from __future__ import annotations

from pathlib import Path

import click

from ostinato.cli.runs import JSON, ROOT, print_json
from ostinato.core.errors import OstinatoError, UserError

TRACKERS = ("tensorboard", "wandb", "mlflow")


@click.command("export")
@click.argument("run")
@click.option("--to", required=True, type=click.Choice(TRACKERS), help="Which tracker.")
@click.option("-o", "options", multiple=True, metavar="KEY=VALUE", help="An option of the tracker (repeatable).")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for what is written here. Default: the run's.")
@ROOT
@JSON
def command(run: str, to: str, options: tuple[str, ...], out: Path | None, root: Path, as_json: bool) -> None:
    """Send a run's rows, those that count, to tensorboard, wandb or mlflow: as a new run there."""
    from ostinato.core.config import load_config
    from ostinato.core.registry import TRACKERS as registry
    from ostinato.experiment.finding import find_run
    from ostinato.experiment.reading import counting, read_json, read_rows
    from ostinato.experiment.selecting import config_leaves
    from ostinato.experiment.tracker_rows import scalars

    folder = find_run(run, root)
    rows = [row for row in counting(read_rows(folder)) if row["kind"] in ("train", "eval", "system")]
    if not rows:
        raise UserError(f"{folder.name} has no rows to send.")
    target = out / folder.name if out else folder
    if to == "tensorboard" and any((target / "logs" / "tensorboard").glob("events.*")):
        raise UserError(f"{target / 'logs' / 'tensorboard'} holds events already. Give another folder: --out DIR.")
    config = load_config(folder / "config.yaml")
    used = config.to_dict()["logging"]["trackers"].get(to)
    given = [f"logging.trackers.{to}.{option}" for option in options]
    config = load_config(folder / "config.yaml", given or ([] if used else [f"logging.trackers.{to}={{}}"]))
    metadata = read_json(folder / "metadata.json")
    about = {"name": metadata["name"], "id": metadata["id"], "segment": 0, "resumed_from": None, "remote": None}
    try:
        tracker = registry.build(config.logging.trackers[to], target, {**about, "config": config_leaves(folder)})
        for row in rows:
            tracker.log(row)
        tracker.close()
    except OstinatoError:
        raise
    except Exception as error:
        raise OstinatoError(f"{to}: {type(error).__name__}: {error}") from error
    remote = getattr(tracker, "remote", None) or {"folder": str(target / "logs" / to)}
    found = {
        "run": folder.name,
        "to": to,
        "rows": len(rows),
        "numbers": sum(len(scalars(row)) for row in rows),
        "remote": remote,
    }
    if as_json:
        print_json(found)
    else:
        where = ", ".join(f"{key} {value}" for key, value in remote.items() if value)
        click.echo(f"{folder.name}: {found['numbers']} numbers in {len(rows)} rows are in {to} ({where})")

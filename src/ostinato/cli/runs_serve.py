"""`ostinato runs serve`: the runs of a root as live pages in a browser."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from ostinato.cli.runs import JSON, ROOT, print_json


@click.command("serve")
@click.option("--port", default=0, show_default="any that is free", type=click.IntRange(0, 65535), help="Which port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Which address; any but this machine's: a token.")
@ROOT
@JSON
def command(port: int, host: str, root: Path, as_json: bool) -> None:
    """All runs of a folder as pages that follow them while they train. Reads only; Ctrl-C ends it."""
    from ostinato.experiment.report_server import ReportServer

    server = ReportServer(root.absolute(), host, port)
    if as_json:
        print_json({"address": server.address, "root": str(root)})
    else:
        click.echo(f"runs of {root}: {server.address}   (Ctrl-C ends it)")
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever()

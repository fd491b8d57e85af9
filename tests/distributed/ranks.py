"""Ranks as processes of their own, which run one function and leave what it returns."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.processes import CONTEXT

Work = Callable[..., Any]


def rank(work: Work, number: int, ranks: int, port: int, folder: Path, arguments: tuple[Any, ...]) -> None:
    """What a process does: `work(*arguments)`, as rank `number`."""
    import torch

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    (folder / f"{number}.json").write_text(json.dumps(work(*arguments)))


def run(work: Work, ranks: int, folder: Path, *arguments: Any, timeout: float = 120) -> list[Any]:
    """What `work(*arguments)`, a function of a module, returns on each of the ranks."""
    folder.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        CONTEXT.Process(target=rank, args=(work, number, ranks, port, folder, arguments)) for number in range(ranks)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(timeout)
    finally:
        for process in processes:
            if process.exitcode is None:
                process.kill()
    assert [process.exitcode for process in processes] == [0] * ranks
    return [json.loads((folder / f"{number}.json").read_text()) for number in range(ranks)]

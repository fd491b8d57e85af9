"""A real Slurm on loopback: munged, slurmctld and slurmd of Debian, in a folder, for as long as a test wants it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "srun")
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"])


def is_there() -> bool:
    """Whether this machine has all of it, and we may start it."""
    return os.geteuid() == 0 and all(shutil.which(program, path=PATH) for program in PROGRAMS)


class Slurm:
    """One machine that says it is two nodes of two processors each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().partition(".")[0]
        ports = [free_port() for _ in range(4)]
        for name in ("state", "spool0", "spool1"):
            (folder / name).mkdir(parents=True)
        self.file = folder / "slurm.conf"
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self.socket = folder / "munge.socket"
        nodes = "\n".join(
            f"NodeName=node{n} NodeHostname={self.host} NodeAddr=127.0.0.1 Port={ports[n]} CPUs=2 State=UNKNOWN"
            for n in range(2)
        )
        self.file.write_text(
            f"ClusterName=test\nSlurmctldHost={self.host}(127.0.0.1)\nSlurmctldPort={ports[2]}\nSlurmUser=root\n"
            f"AuthType=auth/munge\nAuthInfo=socket={self.socket}\nCryptoType=crypto/munge\n"
            f"StateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool%n\nSlurmdPidFile={folder}/slurmd-%n.pid\n"
            f"SlurmctldPidFile={folder}/slurmctld.pid\nSlurmctldLogFile={folder}/slurmctld.log\n"
            f"SlurmdLogFile={folder}/slurmd-%n.log\nProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n"
            "SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nReturnToService=2\nMpiDefault=none\n"
            "SchedulerParameters=batch_sched_delay=1,sched_interval=1\nKillWait=60\nMinJobAge=300\n"
            "SlurmctldDebug=info\nSlurmdDebug=info\nJobAcctGatherType=jobacct_gather/none\n"
            f"{nodes}\nPartitionName=all Nodes=ALL Default=YES State=UP OverSubscribe=NO\n"
        )
        self.environ = {**os.environ, "PATH": PATH, "SLURM_CONF": str(self.file)}
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Slurm:
        try:
            return self.started()
        except (AssertionError, OSError) as error:  # a machine that has the programs and cannot run them
            self.__exit__()
            pytest.skip(f"Slurm runs no job here: {str(error)[:300]}")

    def started(self) -> Slurm:
        """All four daemons up, both nodes idle, and a first job done."""
        self.start(
            "munged", "-F", "-f", f"--key-file={self.folder}/munge.key", f"--socket={self.socket}",
            f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munged.seed",
        )  # fmt: skip
        wait(self.socket.exists, "munged")
        self.start("slurmctld", "-D", "-f", str(self.file))
        for node in ("node0", "node1"):
            self.start("slurmd", "-D", "-N", node, "-f", str(self.file))
        wait(lambda: self.run("sinfo", "-h", "-o", "%D %T").split() == ["2", "idle"], "two idle nodes", self.log)
        trial = self.run(
            "sbatch", "--parsable", "--no-requeue", "-N2", "-o", "/dev/null", "--wrap", "srun true"
        ).strip()
        wait(lambda: self.state(trial) not in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING"), "a job", self.log)
        assert self.state(trial) == "COMPLETED", f"a job of one command ends as {self.state(trial)}\n{self.log()}"
        return self

    def start(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("ab") as out:
            self.processes.append(subprocess.Popen(command, env=self.environ, stdout=out, stderr=out))

    def run(self, *command: str) -> str:
        """What a command of Slurm prints."""
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60).stdout

    def state(self, job: str) -> str:
        """COMPLETED, RUNNING, ..."""
        fields = dict(word.partition("=")[::2] for word in self.run("scontrol", "show", "job", job).split())
        return fields.get("JobState", "GONE")

    def log(self) -> str:
        return "".join(path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("*.[lo][ou][gt]")))

    def __exit__(self, *_: object) -> None:
        self.run("scancel", "--signal=KILL", "--full", "--user=root")
        with contextlib.suppress(AssertionError):
            wait(lambda: not self.run("squeue", "-h").strip(), "an empty queue", seconds=20)
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait(done, what: str, more=lambda: "", seconds: float = 60) -> None:  # type: ignore[no-untyped-def]
    """Until it is done; an AssertionError with `more()` if it takes too long."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"{what} did not come\n{more()}"
        time.sleep(0.2)

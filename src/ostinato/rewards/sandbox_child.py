"""Runs a program nobody has read, and its tests, after giving up all it could do harm with. A script, no module.

In its working directory lies `job.json`; stdin holds the sentinels of the tests, 16 bytes each, of which one is read
only when its test has passed, so that no program finds them in memory; stdout takes, first, which sandbox it is: `N`
for namespaces (Linux keeps network, other processes and all files but its own folder out of reach) or `A` for an audit
hook (Python does, as well as it can), then the sentinels of the tests that passed.
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import json
import os
import posix
import resource
import sys
import types
from collections.abc import Callable
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x20000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS = 1, 8, 38
SYS_MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE = 442, -100, 0x8000
READ_ONLY_NO_SETUID, MS_PRIVATE = 0x1 | 0x2, 1 << 18
CAPABILITY_VERSION, MAY_READ_ALL = 0x20080522, 1 << 2  # CAP_DAC_READ_SEARCH
FIRST_FREE_USER, FREE_USERS = 61184, 4336  # ids that systemd sets aside for users that exist for a moment
SENTINEL_BYTES = 16
MOST_FILES_WRITTEN = 64  # of files_mb each, where no file system of limited size can be had
PROCESS_EVENTS = {
    *("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen", "pty.spawn"),
    *("os.kill", "os.killpg", "signal.pthread_kill"),
}
FILE_EVENTS = {
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink"),
    *("os.truncate", "os.chmod", "os.chown", "os.utime"),
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # numpy starts no others, which may be refused
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def call(function: Any, *arguments: Any) -> None:
    """A function of libc; raises OSError where it fails."""
    if function(*arguments):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter_namespaces() -> None:
    """Own network, IPC, mounts, and process ids for children. Raises OSError where the system does not allow it."""
    kinds, user, group = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET, os.getuid(), os.getgid()
    if user == 0:
        return call(LIBC.unshare, kinds)
    call(LIBC.unshare, kinds | CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def lock_files(megabytes: int) -> None:
    """Everything read-only, but an empty folder in memory instead of the working directory."""
    attributes = (ctypes.c_uint64 * 4)(READ_ONLY_NO_SETUID, 0, MS_PRIVATE, 0)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    call(LIBC.syscall, SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, ctypes.byref(attributes), size)
    folder = os.getcwd()
    call(LIBC.mount, b"tmpfs", folder.encode(), b"tmpfs", 0, f"size={megabytes}m,nr_inodes=1024,mode=1777".encode())
    os.chdir(folder)


def limit(job: dict[str, Any]) -> None:
    """Seconds of computing, memory, sizes of files, open files, processes; no core files."""
    for what, most in (
        (resource.RLIMIT_CPU, job["cpu_seconds"]),
        (resource.RLIMIT_AS, job["memory_mb"] << 20),
        (resource.RLIMIT_FSIZE, job["files_mb"] << 20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, job["processes"]),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def drop_rights(number: int) -> None:
    """Root becomes a user nobody else is, since limits do not bind root; all rights go but, if need be, reading."""
    rights = 0
    if os.getuid() == 0:
        user = FIRST_FREE_USER + number % FREE_USERS
        os.chown(".", user, user)
        call(LIBC.prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        rights = 0 if os.access(os.__file__, os.R_OK) else MAY_READ_ALL  # Python may be installed below /root
    header, data = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)(rights, rights)
    call(LIBC.capset, ctypes.byref(header), ctypes.byref(data))
    call(LIBC.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    call(LIBC.prctl, PR_SET_PDEATHSIG, 9, 0, 0, 0)  # behind the change of user, which clears it
    open(os.__file__).close()  # raises OSError where the user cannot read Python's library


def guard(in_namespaces: bool) -> None:
    """Refuse connections (to sockets in the file system too) and calls of C; without namespaces, processes and files
    outside the working directory too."""
    folder, written = os.path.realpath(os.getcwd()), itertools.count()

    def inside(path: Any) -> bool:
        return isinstance(path, int) or (os.path.realpath(os.fsdecode(path)) + os.sep).startswith(folder + os.sep)

    def may_write(path: Any) -> bool:
        return inside(path) and next(written) < MOST_FILES_WRITTEN

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        refused = event.startswith(("socket.", "ctypes.dl")) and event != "socket.__new__"
        if not in_namespaces:
            refused = refused or event in PROCESS_EVENTS
            refused = refused or (event == "open" and bool(arguments[2] & WRITING) and not may_write(arguments[0]))
            refused = refused or (event in FILE_EVENTS and not inside(arguments[0]))
        if refused:
            raise PermissionError(f"{event} is not allowed here")

    sys.addaudithook(hook)
    for module in (os, posix):
        for name in {"unshare", "setns"} & set(vars(module)):
            delattr(module, name)  # from Python 3.12 on; no event tells of them


def run(job: dict[str, Any], sentinels: int, results: int, read: Callable, write: Callable, leave: Callable) -> None:
    """The program as a module, then each test in a copy of its names."""
    solution = types.ModuleType("solution")
    sys.modules["solution"] = solution
    try:
        exec(compile(job["program"], "<solution>", "exec"), solution.__dict__)
    except BaseException:
        leave(0)
    for test in job["tests"]:
        try:
            exec(compile(test, "<test>", "exec"), dict(solution.__dict__))
        except BaseException:
            read(sentinels, SENTINEL_BYTES)
        else:
            write(results, read(sentinels, SENTINEL_BYTES))
    leave(0)


def main() -> None:
    """Exit status: 0 if the program came to its end, 1 if it was killed; nothing on stdout: no sandbox."""
    call(LIBC.prctl, PR_SET_PDEATHSIG, 9, 0, 0, 0)
    with open("job.json", encoding="utf-8") as file:
        job = json.load(file)
    os.unlink("job.json")
    os.environ.clear()
    os.environ.update(ONE_THREAD)
    sentinels, results = (fcntl.fcntl(pipe, fcntl.F_DUPFD, 100 + 2 * os.urandom(1)[0]) for pipe in (0, 1))
    for standard in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), standard)
    os.closerange(3, 100)
    try:
        if job["namespaces"]:
            enter_namespaces()
        in_namespaces = bool(job["namespaces"])
    except OSError:
        in_namespaces = False
    number = os.getpid()
    if child := os.fork():
        os._exit(0 if os.waitpid(child, 0)[1] == 0 else 1)
    try:
        lock_files(job["files_mb"])
    except OSError:
        in_namespaces = False
    drop_rights(number)
    guard(in_namespaces)
    limit(job)
    os.write(results, b"N" if in_namespaces else b"A")
    run(job, sentinels, results, os.read, os.write, os._exit)


if __name__ == "__main__":
    main()

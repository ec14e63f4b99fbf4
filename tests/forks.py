"""Ranks without a starter: forked processes of this one, connected as torchrun would connect them."""

import os
import signal
import socket
import sys
import time
from pathlib import Path


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


def start(count: int, work, folder: Path) -> list[int]:
    """Process ids of `count` ranks that call work(rank), whose result is their exit code; what they
    say goes to folder/out-RANK and folder/err-RANK."""
    port, ids = free_port(), []
    for rank in range(count):
        ids.append(os.fork())
        if ids[-1] == 0:
            os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{count}",
                           "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
            live(lambda: work(rank), folder / f"out-{rank}", folder / f"err-{rank}")
    return ids


def live(work, out: Path, err: Path) -> None:
    """The whole life of a forked process."""
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    code = 1
    try:
        code = work()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.__stdout__.flush()
        sys.__stderr__.flush()
        os._exit(code)


def wait(ids: list[int], seconds: float = 60) -> list[int]:
    """Exit codes in order, below 0 for the number of a signal; AssertionError if one hangs."""
    codes, end = {}, time.monotonic() + seconds
    while len(codes) < len(ids):
        for process in set(ids) - set(codes):
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                codes[process] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            for process in set(ids) - set(codes):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
            raise AssertionError(f"{len(ids) - len(codes)} of {len(ids)} ranks did not end")
        time.sleep(0.01)
    return [codes[process] for process in ids]


def said(folder: Path, count: int) -> str:
    """What all ranks wrote to stderr."""
    return "".join((folder / f"err-{rank}").read_text() for rank in range(count))

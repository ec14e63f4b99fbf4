"""Ranks without torchrun: forked processes of this one, connected as torchrun would connect them."""

import os
import signal
import sys
import time
from pathlib import Path

import torch.distributed as dist


class Ranks:
    """`count` processes that call work(rank), whose result is their exit code; what they say goes
    to folder/out-RANK and folder/err-RANK. The store lives here, as it lives in torchrun."""

    def __init__(self, count: int, work, folder: Path):
        self.store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.folder, self.ids = folder, []
        for rank in range(count):
            self.ids.append(os.fork())
            if self.ids[-1] == 0:
                os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{count}",
                               "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{self.store.port}",
                               "TORCHELASTIC_USE_AGENT_STORE": "True",
                               "TORCHELASTIC_RESTART_COUNT": "0"}
                live(lambda: work(rank), folder / f"out-{rank}", folder / f"err-{rank}")

    def wait(self, seconds: float = 60) -> list[int]:
        """Exit codes in order, below 0 the number of a signal; AssertionError if a rank hangs."""
        codes, end = {}, time.monotonic() + seconds
        while len(codes) < len(self.ids) and time.monotonic() < end:
            time.sleep(0.005)
            for process in set(self.ids) - set(codes):
                found, status = os.waitpid(process, os.WNOHANG)
                if found:
                    codes[process] = os.waitstatus_to_exitcode(status)
        for process in set(self.ids) - set(codes):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        assert len(codes) == len(self.ids), f"a rank did not end: {codes}\n{self.said()}"
        return [codes[process] for process in self.ids]

    def said(self) -> str:
        """What all ranks wrote to stderr."""
        return "".join((self.folder / f"err-{rank}").read_text() for rank in range(len(self.ids)))


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

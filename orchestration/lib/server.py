"""Starts and watches the three processes of `scoring serve`: the definitions, the web page and the daemon.

The definitions are loaded once, by a server of their own: left to themselves, page and daemon would each load them, and the daemon
again every minute.
"""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType

from orchestration.lib.dbt_runner import read_project
from orchestration.lib.errors import UserError
from orchestration.lib.warehouse import only_process
from orchestration.lib.workspace import Workspace

HOST = "127.0.0.1"
#: Loading the definitions takes a few seconds, on a busy machine more.
START_SECONDS = 180
STOP_SECONDS = 30
#: Of <sys/prctl.h>: which signal a process gets when its parent ends.
PR_SET_PDEATHSIG = 1


def serve_until_stopped(workspace: Workspace, port: int, *, say: Callable[[str], None]) -> int:
    """Run page, daemon and definitions until one of them ends or the process is told to stop. Returns the exit status.

    Raises
    ------
    UserError
        The port is taken, another server runs this workspace, or the definitions could not be loaded.
    """
    busy = f"{workspace.home} is served already (process {{}}): two timetables would refresh it in turn"
    # Child processes do not hold it: descriptors of Python's are not inherited.
    with only_process(workspace.server_lock_file, busy):
        return _serve(workspace, port, say)


def _serve(workspace: Workspace, port: int, say: Callable[[str], None]) -> int:
    if not _is_free(port):
        raise UserError(f"port {port} is in use on {HOST}: choose another with --port")
    read_project(workspace)  # compiled now, so that the three processes find it
    code_port = _free_port()
    locations = workspace.dagster / "workspace.yaml"
    locations.write_text(
        f"load_from:\n  - grpc_server: {{host: {HOST}, port: {code_port}, location_name: scoring}}\n", encoding="utf-8"
    )
    python = [sys.executable, "-m"]
    module = ["-m", "orchestration.definitions"]
    level = ["--log-level", "warning"]
    processes: list[subprocess.Popen[bytes]] = []

    def stop(*_: int | FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        processes.append(
            subprocess.Popen(
                [*python, "dagster", "api", "grpc", *module, "--host", HOST, "--port", str(code_port), *level],
                preexec_fn=_end_with_parent,
            )
        )
        _wait_for(code_port, processes[0])
        seen = ["-w", str(locations)]
        processes.append(
            subprocess.Popen(
                [*python, "dagster_webserver", *seen, "--host", HOST, "--port", str(port), *level],
                preexec_fn=_end_with_parent,
            )
        )
        processes.append(
            subprocess.Popen([*python, "dagster._daemon", "run", *seen, *level], preexec_fn=_end_with_parent)
        )
        say(f"http://{HOST}:{port} (Ctrl-C stops it); a refresh starts every five minutes")
        while all(process.poll() is None for process in processes):
            time.sleep(0.5)
        return next(process.returncode for process in processes if process.poll() is not None) or 1
    except KeyboardInterrupt:
        return 0
    finally:
        for process in reversed(processes[1:]):
            process.terminate()
        for process in processes[:1]:
            process.kill()  # see `_end_with_parent`
        for process in processes:
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _end_with_parent() -> None:
    """In a child: end when the server is killed, however that happens, instead of going on beside the next one. On Linux.

    At once: the server of definitions goes on where it is only asked to end. A run that is still at work holds the right to write, so
    that no other begins before it ends.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while _is_free(port):
        if process.poll() is not None:
            raise UserError(f"the definitions could not be loaded: their server ended with status {process.returncode}")
        if time.monotonic() > deadline:
            raise UserError(f"the definitions were not loaded within {START_SECONDS} s")
        time.sleep(0.2)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])

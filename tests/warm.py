"""Commands without their imports: a process that has imported everything copies itself for each of them.

A command that asks models spends five seconds on importing torch and transformers, and one on a tiny pair. Each of
these is a process of its own all the same, with its own arguments, directory, environment, streams and exit status.
That a command finds what it imports from a cold start is tested elsewhere (`tests/test_cli.py`, `examples/quickstart`).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
SOCKET, LARGEST = "socket", 1 << 20
PATIENCE = 5.0
"""Seconds between two looks whether the tests are still there."""
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
there = [number for number, stream in enumerate([sys.stdin, sys.stdout, sys.stderr]) if stream is not None]
order = {{"words": {own} + sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ), "streams": there}}
with socket.socket(socket.AF_UNIX) as line:
    line.connect({place!r})
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os.kill(process, number))
    socket.send_fds(line, [json.dumps(order).encode() + b"\\n"], there)
    process = int.from_bytes(line.recv(4), "big")
    status = line.recv(8)
sys.exit(int(status) if status else "the process was lost")
"""
OWN: dict[str, list[str]] = {"ckdiff": ["-m", "ckdiff"], "python": []}
"""The commands, and what of `python` each is."""


@contextlib.contextmanager
def warm_commands(folder: Path) -> Iterator[Path]:
    """A new directory with `ckdiff` and `python`, for as long as the context is open."""
    folder.mkdir()
    place = str(folder / SOCKET)
    for name, own in OWN.items():
        (folder / name).write_text(CLIENT.format(python=sys.executable, own=own, place=place), encoding="utf-8")
        (folder / name).chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.warm", place]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        try:
            yield folder
        finally:
            server.terminate()


def serve(place: str) -> None:
    """Answer orders until somebody ends this process, or the one that began it has ended."""
    import_all()
    sys.executable = str(Path(place).with_name("python"))  # what scripts start is warm as well
    signal.signal(signal.SIGCHLD, lambda number, frame: forget_ended())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        listener.settimeout(PATIENCE)
        parent = os.getppid()
        print("ready", flush=True)
        while os.getppid() == parent:
            with contextlib.suppress(TimeoutError), listener.accept()[0] as line:
                if os.fork() == 0:
                    listener.close()
                    obey(line)


def forget_ended() -> None:
    """Nobody waits for the copies; what they computed counts as this process's, and so as the tests'."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def import_all() -> None:
    """Everything that a command could want, and nothing of it computes."""
    import ckdiff

    for module in pkgutil.walk_packages(ckdiff.__path__, "ckdiff."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    importlib.import_module("transformers.models.llama.modeling_llama")
    gc.freeze()


def obey(line: socket.socket) -> None:
    """Do one order, say its exit status, and end."""
    text, streams, _, _ = socket.recv_fds(line, LARGEST, 3)
    while not text.endswith(b"\n"):
        text += line.recv(LARGEST)
    order = json.loads(text)
    line.sendall(os.getpid().to_bytes(4, "big"))
    take_streams(dict(zip(order["streams"], streams, strict=True)))
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    threading.Thread(target=go_with, args=(line,), daemon=True).start()
    status = status_of(order["words"])
    with contextlib.suppress(AttributeError, BrokenPipeError):
        sys.stdout.flush()
    line.sendall(str(status).encode())
    os._exit(0)


def take_streams(streams: dict[int, int]) -> None:
    """By number what is standard input, output and error from now on; those that the command lacks are closed."""
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        os.close(number)
        if number in streams:
            os.dup2(streams[number], number)
            os.close(streams[number])
        own = open(number, mode, buffering=1 if number == 2 else -1) if number in streams else None  # noqa: SIM115
        setattr(sys, name, own)


def go_with(line: socket.socket) -> None:
    """Whoever ends the command without a word ends this copy without one."""
    line.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


def status_of(words: list[str]) -> int:
    """The exit status of `python WORDS`, which are `-m ckdiff …`, `-c CODE …` or `SCRIPT …`, `-P` before them."""
    words = words[words[0] == "-P" :]
    way, sys.argv = words[0], words[1 if words[0].startswith("-") else 0 :]
    try:
        if way == "-c":
            exec(sys.argv[0], {"__name__": "__main__"})
        elif way == "-m":
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(way, run_name="__main__")
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])

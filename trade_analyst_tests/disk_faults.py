"""Disks that fail, for real: calls killed or refused by strace, small disks, and file systems whose power is cut.

What is missing on a machine (strace, root, a loop device) is said by the tests that are skipped for it.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest

CHANGING = ("openat", "fallocate", "fsync", "ftruncate", "pwrite64", "write", "mkdir", "rename", "unlink")
LOOKING = ("read", "newfstatat", "close", "flock")
SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, the same in XFS: the file system stops as if the power had gone


def run(*command: str) -> None:
    """Run a program of the system; its failure fails the test."""
    subprocess.run(command, check=True, capture_output=True)


def need_strace() -> None:
    """Skip the test, by name, where strace is not there."""
    if shutil.which("strace") is None:
        pytest.skip("NOT RUN: strace is not installed")


def traced(
    context: BaseContext, target: Callable[..., None], arguments: tuple[object, ...], trace: Path, *options: str
) -> Any:
    """What `target(*arguments, line)` sends in a process of its own with strace before the kernel; None if killed.

    It has to send `ready`, wait for `go`, work, and send how that ended.
    """
    ours, theirs = context.Pipe()  # type: ignore[attr-defined]
    process = context.Process(target=target, args=(*arguments, theirs))  # type: ignore[attr-defined]
    process.start()
    theirs.close()
    assert ours.recv() == "ready"
    command = ["strace", "-p", str(process.pid), "-o", str(trace), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        if "attached" not in said:
            process.kill()
            pytest.skip(f"NOT RUN: strace may not look into a process here ({said.strip()})")
        ours.send("go")
        process.join(60)
        process.kill()
        process.join()
        tracer.wait(60)
    with contextlib.suppress(EOFError, ConnectionResetError):
        return ours.recv()
    return None


def calls_in(trace: Path) -> collections.Counter[str]:
    """How often each call was made, by name."""
    lines = trace.read_text().splitlines()
    return collections.Counter(name[1] for line in lines if (name := re.match(r"(\w+)\(", line)))


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A file system on this folder."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0:
        pytest.skip("NOT RUN: mounting needs root")
    try:
        run("mount", *options, str(folder))
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"NOT RUN: nothing can be mounted here ({error})")
    try:
        yield folder
    finally:
        run("umount", str(folder))


def small_disk(folder: Path, size: str = "400k") -> contextlib.AbstractContextManager[Path]:
    """A disk of this size: 400 KiB, unless told."""
    return mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")


def fill(folder: Path) -> None:
    """Leave no room at all: `ballast` takes it."""
    with (folder / "ballast").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 512):
            pass


class PowerDisk:
    """An ext4 file system in a file, whose power can be cut; `folder` is where it is mounted."""

    def __init__(self, place: Path, *, journal: str = "ordered") -> None:
        self.image, self.folder, self._options = place / "image", place / "disk", f"loop,data={journal}"
        if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
            pytest.skip("NOT RUN: a file system of the test's own needs root and mkfs.ext4")
        with self.image.open("wb") as file:
            file.truncate(48 << 20)
        run("mkfs.ext4", "-q", "-F", str(self.image))

    def mounted(self) -> contextlib.AbstractContextManager[Path]:
        """The file system in place, as it came through what happened before."""
        return mounted(self.folder, "-o", self._options, str(self.image))

    def cut(
        self,
        context: BaseContext,
        target: Callable[..., None],
        arguments: tuple[object, ...],
        *,
        seconds: float,
        mode: int,
    ) -> Any:
        """Let `target(*arguments, line)` work for so long, then cut the power; the last thing it had sent.

        Mode 1 writes the journal out first, mode 2 writes nothing.
        """
        with self.mounted():
            ours, theirs = context.Pipe()  # type: ignore[attr-defined]
            process = context.Process(target=target, args=(*arguments, theirs))  # type: ignore[attr-defined]
            process.start()
            theirs.close()
            acknowledged = ours.recv()
            process.join(seconds)
            while ours.poll():
                acknowledged = ours.recv()
            descriptor = os.open(self.folder, os.O_RDONLY)
            try:
                fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", mode))
            finally:
                os.close(descriptor)
            process.kill()
            process.join()
        return acknowledged

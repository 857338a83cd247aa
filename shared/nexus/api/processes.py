"""What the processes of one gunicorn count together: files of prometheus_client in one folder.

A process writes to the files of its slot. When it has died, its successor takes the slot and goes on counting
where it ended: so nothing that was counted is lost, and there are no more files than for the processes that
lived at once. The library's own way, files named by process ids, keeps those of all that ever died.
"""

import atexit
import os
import shutil
import tempfile
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from prometheus_client import multiprocess, values
from prometheus_client.mmap_dict import MmapedDict

#: In memory, and with the container it is gone: a container that starts counts from zero.
_PARENT = Path("/dev/shm")  # noqa: S108  of this container alone, as gunicorn's own files there
#: The kinds of files that nexus/api/metrics.py needs, by the library's names.
_KINDS = ("counter", "histogram", "gauge_livesum")

#: Of this process, once it is one that answers requests.
_slot: int | None = None


@cache
def shared_folder() -> str:
    """The folder of this gunicorn, new and empty when it is first asked for; a reload keeps it.

    The library looks for it in PROMETHEUS_MULTIPROC_DIR, which gunicorn.conf.py sets.
    """
    folder, owner = tempfile.mkdtemp(prefix="nexus-metrics-", dir=_PARENT), os.getpid()

    def remove() -> None:
        # Inherited by every fork, and none of them may do it.
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    values.ValueClass = values.MultiProcessValue(lambda: _slot)  # type: ignore[no-untyped-call]
    return folder


def is_shared() -> bool:
    """Whether this process is one of several that count together."""
    return shared_folder.cache_info().currsize > 0


def pre_fork(server: Any, worker: Any) -> None:
    """gunicorn's hook, in its first process: a slot that no living process has."""
    taken = {each.slot for each in server.WORKERS.values()}
    worker.slot = next(slot for slot in count() if slot not in taken)
    for kind in _KINDS:
        _make(Path(shared_folder()) / f"{kind}_{worker.slot}.db")


def _make(file: Path) -> None:
    """The library's own making shows an empty file for a moment, at which whoever reads it then fails."""
    if not file.exists():
        unseen = file.with_suffix(".new")
        MmapedDict(str(unseen)).close()  # type: ignore[no-untyped-call]
        unseen.rename(file)


def post_fork(server: Any, worker: Any) -> None:
    """gunicorn's hook, in the new process."""
    del server
    global _slot  # noqa: PLW0603  what the process is, for its whole life
    _slot = worker.slot


def child_exit(server: Any, worker: Any) -> None:
    """gunicorn's hook, in its first process: what a dead process was doing is no longer true."""
    del server
    multiprocess.mark_process_dead(worker.slot, shared_folder())  # type: ignore[no-untyped-call]

"""Collects facts about a node before a sweep: its versions, its disk, its device.

This code runs on the node. It answers with plain values, so that the driver can also read the
answer of a node that has other sources, and tell such a node from one that does not answer.
"""

import http.client
import platform
import shutil
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pcworker.errors import InputError
from pcworker.machine.provenance import code_sha256, library_versions
from pcworker.trials.configuration import Configuration

ANSWER_S = 5
"""Seconds in which the dashboard must answer."""
ANY_LOOPBACK = "127.255.255.254"
"""Another address of this machine, on Linux. A server that listens on all addresses answers there;
one that listens on 127.0.0.1 only does not."""


def versions() -> dict[str, str]:
    """The versions that must be equal on all machines of a sweep, by name."""
    code = {"engine": str(Configuration.engine_version), "code": code_sha256()[:12]}
    return {"python": platform.python_version(), **library_versions(), **code}


def host_facts(folder: str, images: str | None) -> dict[str, Any]:
    """Everything about this node except its device, by the field names of `NodeFound`.

    folder  a folder on the disk that Ray writes to
    images  the directory of images that the workers will read; None: they read none
    """
    facts: dict[str, Any] = {"versions": versions(), "disk": disk(folder)}
    return facts | {"lacks_images": images is not None and not Path(images).is_dir()}


def device_facts(device: str, *, gpus: int, cpus: int, sums: str) -> dict[str, Any]:
    """The device that `prepare_device` chooses for these arguments, and how exactly it computes
    trials with these sums, by the field names of `NodeFound`."""
    # This imports torch, which is wanted only where something is computed.
    from pcworker.kernels.exactness import try_exactness

    facts: dict[str, Any] = {}
    try:
        chosen, facts["device"], facts["free_memory"] = _device(device, gpus, cpus)
        return facts | asdict(try_exactness(chosen, sums))
    except InputError as error:
        return {"device_trouble": str(error)}


def disk(folder: str) -> tuple[int, int]:
    """The free and the total bytes of the disk that holds `folder`, or will hold it."""
    path = Path(folder).absolute()
    while not path.exists():
        path = path.parent
    used = shutil.disk_usage(path)
    return used.free, used.total


def knock(url: str) -> dict[str, Any]:
    """Asks the dashboard at `url` for its jobs, without a token. This runs on the machine of the
    dashboard, and answers with the field names of `DashboardFound`."""
    parts = urlsplit(f"//{url.rpartition('//')[2]}")
    host, port = parts.hostname or "", parts.port or 80
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/api/jobs/")
        status: int | None = connection.getresponse().status
    except (OSError, http.client.HTTPException):
        status = None
    finally:
        connection.close()
    return {"status": status, "public": not _is_loopback(host) or _accepts(ANY_LOOPBACK, port)}


def _device(device: str, gpus: int, cpus: int) -> tuple[Any, str, int | None]:
    """The chosen device, its name, and the bytes of its memory that are free."""
    import torch

    from pcworker.machine.device import device_name, prepare_device

    chosen = prepare_device(device, gpus=gpus, cpus=cpus)
    free = torch.cuda.mem_get_info(chosen)[0] if chosen.type == "cuda" else _free_memory()
    return chosen, device_name(chosen), free


def _free_memory() -> int | None:
    """The bytes that a process could get without swapping; None if the system does not say it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    [available] = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(available) * 1024


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=ANSWER_S).close()
    except OSError:
        return False
    return True

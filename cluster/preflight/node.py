"""What a node says of itself before a sweep: its versions, its disk, its device.

It runs on the node, and answers with plain values: a node with other sources than the driver's
should be told from one that does not answer.
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
from pcworker.trials.trial import ENGINE_VERSION

ANSWER_S = 5
ANY_LOOPBACK = "127.255.255.254"
"""On Linux an address of this machine, too: who listens at 127.0.0.1 alone is not found there, who
listens at all addresses is."""


def versions() -> dict[str, str]:
    """All that must be equal wherever a sweep runs."""
    code = {"engine": str(ENGINE_VERSION), "code": code_sha256()[:12]}
    return {"python": platform.python_version(), **library_versions(), **code}


def look(folder: str, images: str | None) -> dict[str, Any]:
    """What there is on this node, but for its device.

    folder  on the disk that Ray writes to
    images  a directory that the workers read, or None
    """
    facts: dict[str, Any] = {"versions": versions(), "disk": disk(folder)}
    return facts | {"lacks_images": images is not None and not Path(images).is_dir()}


def look_at_device(device: str, *, gpus: int, cpus: int) -> dict[str, Any]:
    """What the device is that `prepare_device` chooses, and does. The arguments are the same."""
    from pcworker.kernels.exactness import try_exactness  # torch: only where something is computed

    facts: dict[str, Any] = {}
    try:
        chosen, facts["device"], facts["free_memory"] = _device(device, gpus, cpus)
    except InputError as error:
        return {"device_trouble": str(error)}
    return facts | asdict(try_exactness(chosen))


def disk(folder: str) -> tuple[int, int]:
    """Bytes that are free, and bytes in all, on the disk that holds `folder`, or will hold it."""
    path = Path(folder).absolute()
    while not path.exists():
        path = path.parent
    used = shutil.disk_usage(path)
    return used.free, used.total


def knock(url: str) -> dict[str, Any]:
    """Asks the dashboard at `url` for its jobs without a token, on the machine where it runs."""
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
    """The device, its name, and the bytes of memory that are free there."""
    import torch

    from pcworker.machine.device import device_name, prepare_device

    chosen = prepare_device(device, gpus=gpus, cpus=cpus)
    free = torch.cuda.mem_get_info(chosen)[0] if chosen.type == "cuda" else _free_memory()
    return chosen, device_name(chosen), free


def _free_memory() -> int | None:
    """Bytes that a process could get without swapping; None where the system does not say so."""
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

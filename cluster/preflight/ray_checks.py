"""Judges what was found on a Ray cluster and on its nodes: one function for each check."""

from collections.abc import Callable, Sequence

from cluster.preflight.findings import Found, NodeFound, RayFound
from cluster.preflight.verdicts import EACH_WORKER, RUN_ANYWAY, Judged, Level
from pcworker.text import counted

RAY_DISK_BYTES = 2**30
"""The bytes that Ray needs for its logs and for the files that it unpacks."""
RAY_DISK_SHARE = 0.05
"""Ray keeps no objects on a disk of which less than this share is free."""
MEMORY_BYTES = 2**30
"""The bytes of memory that a worker needs. On a GPU, `prepare_device` requires them."""


def _nodes(found: Found, ray: RayFound) -> Judged:
    silent = [node for node in ray.nodes if node.silent is not None]
    count = len(ray.nodes) - len(silent)
    busy = "; ".join(f"{n.name}: {n.busy}: not looked at" for n in ray.nodes if n.busy)
    if ray.no_room is not None:
        return Judged("FAIL", ray.no_room)
    if silent:
        what = "; ".join(f"{node.name} does not answer: {node.silent}" for node in silent)
        what = "; ".join(filter(None, (what, busy)))
        remedy = "look at that node, or drain it; a busy one answers later"
        return Judged("warn" if count else "FAIL", what, remedy)
    if busy:
        return Judged("warn", busy, "a worker that starts there looks for itself")
    if ray.lack:
        remedy = "workers start on nodes that join later, and each looks for itself"
        return Judged("warn", ray.lack, remedy)
    answered = f"{counted(count, 'node')} with room for a worker answered"
    return Judged("ok", answered if count else _HERE)


def _versions(found: Found, ray: RayFound) -> Judged:
    ours = found.versions
    said = ", ".join(f"{name} {version}" for name, version in ours.items())
    if _leaves_it_to_workers(ray):
        return Judged("ok", f"{_HERE}'s: {said}")
    if not answering(ray):
        return _unseen(ray)
    other = [
        f"{node.name} has {name} {node.versions.get(name, 'unknown')}, the driver {version}"
        for node in answering(ray)
        for name, version in ours.items()
        if node.versions.get(name) != version
    ]
    if other:
        remedy = "install the same on every node, best by one image"
        return Judged("FAIL", "; ".join(other), remedy)
    return Judged("ok", f"equal: {said}")


def _devices(found: Found, ray: RayFound) -> Judged:
    looked_at = _with_device(ray)
    if not looked_at:
        return _unseen(ray)
    broken = [f"{n.name}: {n.device_trouble}" for n in looked_at if n.device_trouble]
    if broken:
        return Judged("FAIL", "; ".join(broken))
    seen = "; ".join(f"{node.name}: {_device(node)}" for node in looked_at)
    if short := names_of(looked_at, lambda n: (n.free_memory or MEMORY_BYTES) < MEMORY_BYTES):
        remedy = f"end what else runs on {short}: a worker needs {size(MEMORY_BYTES)}"
        return Judged("warn", seen, remedy)
    if ray.idle_gpus:
        what = f"the cluster has {counted(ray.idle_gpus, 'GPU')} that no worker asks for; {seen}"
        return Judged("warn", what, "give --gpus-per-worker, or say --device cpu")
    return Judged("ok", seen)


def _exactness(found: Found, ray: RayFound) -> Judged:
    tried = [node for node in _with_device(ray) if node.device_trouble is None]
    if _leaves_it_to_workers(ray) and not found.exact:
        return Judged("skip", "each row of its tables says what was exact")
    if not tried:
        return _unseen(ray)
    # Results that do not rely on exactness say in every row of their tables what was exact.
    broken: Level = "FAIL" if found.exact else "warn"
    if drifting := names_of(tried, lambda node: not node.exact):
        what = f"on {drifting} Z-IL's weights are not those of torch.autograd"
        return Judged(
            broken, what, f"take these nodes out, or another build of torch; {RUN_ANYWAY}"
        )
    if restless := names_of(tried, lambda node: node.packing == "irreproducible"):
        what = f"on {restless} a trial does not repeat itself"
        return Judged(broken, what, f"take these nodes out; {RUN_ANYWAY}")
    ways = {node.name: f"{node.packing}, by {node.kernel}" for node in tried}
    how = "; ".join(
        f"{', '.join(name for name in ways if ways[name] == way)}: {way}"
        for way in dict.fromkeys(ways.values())
    )
    what = f"Z-IL equals torch.autograd bit for bit; {how}"
    devices = {node.device for node in tried}
    apart = found.sums == "library" and not found.same_everywhere and len(devices) > 1
    if found.exact and apart:
        what = f"{what}; torch's own sums may differ between {' and '.join(sorted(devices))}"
        return Judged("warn", what, "give --same-everywhere, or leave out --sums library")
    if found.exact and any(node.packing == "alone" for node in tried):
        remedy = "trials are trained one by one there, slower; with --cpus-per-worker 1 perhaps not"
        return Judged("warn", what, remedy)
    return Judged("ok", what)


def _disk(found: Found, ray: RayFound) -> Judged:
    disks = {node.name: node.disk for node in answering(ray)}
    if ray.disk is not None:
        disks[_HERE] = ray.disk
    if not disks:
        return _unseen(ray)
    what = "; ".join(f"{name}: {size(free)} free" for name, (free, _) in disks.items())
    remedy = "make room on the disk of Ray's temporary folder, or start Ray with another --temp-dir"
    if any(free < RAY_DISK_BYTES for free, _ in disks.values()):
        return Judged("FAIL", what, remedy)
    if any(free < RAY_DISK_SHARE * total for free, total in disks.values()):
        return Judged("warn", f"{what}, less than 5 %", remedy)
    return Judged("ok", what)


def _token(found: Found, ray: RayFound) -> Judged:
    if ray.demands_token:
        return Judged("ok", "Ray asks for it")
    if ray.demands_token is None:
        what = "whether Ray asks for a token could not be told"
        return Judged("warn", what, "see that every node has RAY_AUTH_MODE=token")
    what = "Ray runs what anyone who reaches it sends"
    remedy = "export RAY_AUTH_MODE=token on every node and here, and start Ray anew"
    return Judged("warn" if ray.local else "FAIL", what, f"{remedy}; {RUN_ANYWAY}")


def _dashboard(found: Found, ray: RayFound) -> Judged:
    there = ray.dashboard
    if there is None:
        return Judged("ok", "there is none")
    if there.status is None:
        what = f"{there.url} does not answer on its machine"
        return Judged("warn", what, "see that it is there, and not public")
    if there.status in (401, 403):
        return Judged("ok", f"{there.url} asks for a token")
    if not there.public:
        return Judged("ok", f"{there.url}, on its machine's loopback interface alone")
    remedy = "start Ray with --dashboard-host 127.0.0.1 and RAY_AUTH_MODE=token"
    what = f"{there.url} is public and takes jobs without a token"
    return Judged("FAIL", what, f"{remedy}; {RUN_ANYWAY}")


RAY_CHECKS: tuple[tuple[str, Callable[[Found, RayFound], Judged]], ...] = (
    ("nodes", _nodes),
    ("versions", _versions),
    ("devices", _devices),
    ("exactness", _exactness),
    ("Ray's disk", _disk),
    ("token", _token),
    ("dashboard", _dashboard),
)
"""The checks of a cluster that can be reached, by name, in the order in which they are printed."""
_HERE = "this machine"


def answering(ray: RayFound | str | None) -> list[NodeFound]:
    """The nodes that have answered; none if Ray cannot be reached or is not needed."""
    return [n for n in ray.nodes if n.silent is None] if isinstance(ray, RayFound) else []


def names_of(nodes: Sequence[NodeFound], which: Callable[[NodeFound], bool]) -> str:
    """The names of the nodes for which `which` is true, with commas between them."""
    return ", ".join(node.name for node in nodes if which(node))


def size(count: float) -> str:
    """Formats a number of bytes in MB, GB or TB, with three digits."""
    for unit, bytes_of_it in (("MB", 1e6), ("GB", 1e9)):
        if count < 999.5 * bytes_of_it:
            return f"{count / bytes_of_it:.3g} {unit}"
    return f"{count / 1e12:,.3g} TB"


def _leaves_it_to_workers(ray: RayFound) -> bool:
    """True if the nodes were not asked: a local Ray runs on this machine only, and its workers look
    for themselves."""
    return ray.local and not ray.nodes and ray.no_room is None


def _unseen(ray: RayFound) -> Judged:
    if _leaves_it_to_workers(ray):
        return Judged("skip", EACH_WORKER)
    return Judged("skip", "see above" if answering(ray) else "no node answered")


def _with_device(ray: RayFound) -> list[NodeFound]:
    """The nodes whose device was looked at."""
    return [node for node in answering(ray) if node.busy is None]


def _device(node: NodeFound) -> str:
    free = "" if node.free_memory is None else f", {size(node.free_memory)} of memory free"
    more = f", one of {node.gpus:g} GPUs" if node.gpus > 1 and "cuda" in node.device else ""
    return node.device + more + free

"""What would break an expensive run: from what was found to verdicts. Pure: no Ray, no clock.

`cluster.preflight.look` finds it, `jobs.preflight` prints all of it, a job what is not ok.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cluster.preflight.findings import Found, NodeFound, RayFound, StoreFound

Level = Literal["ok", "warn", "FAIL", "skip"]
"""A warning is something to know that the sweep goes on in spite of; skipped is what could not be
looked at, or need not be."""

CLOCK_WARN_S = 10.0
"""Drivers and `jobs.status` take one another for gone after 30 s."""
CLOCK_FAIL_S = 300.0
"""S3 refuses requests that are 15 minutes off."""
RAY_DISK_BYTES = 2**30
"""Of Ray's logs and of what it unpacks."""
RAY_DISK_SHARE = 0.05
"""With less than this share of its disk free Ray keeps no objects there."""
STORE_SPARE_BYTES = 20 * 10**6
"""Beside the weights."""
MEMORY_BYTES = 2**30
"""A worker's; on a GPU `prepare_device` demands it."""

EACH_WORKER = "each worker looks, before its first shard"
RUN_ANYWAY = "--no-preflight runs anyway"


@dataclass(frozen=True)
class Verdict:
    """One line."""

    check: str
    status: Level
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.status:<5} {self.check:<19} {self.found}{remedy}"


def verdicts(found: Found) -> list[Verdict]:
    """One for each check, in a fixed order."""
    ray = found.ray
    ray_checks: Sequence[tuple[str, Callable[[Found, RayFound], Verdict]]] = (
        ("nodes", _nodes), ("versions", _versions), ("devices", _devices),
        ("exactness", _exactness), ("Ray's disk", _ray_disk), ("token", _token),
        ("dashboard", _dashboard),
    )  # fmt: skip
    if isinstance(ray, str):
        nodes = [Verdict("nodes", "FAIL", ray)]
        nodes += [Verdict(name, "skip", "Ray cannot be reached") for name, _ in ray_checks[1:]]
    else:
        nodes = [check(found, ray) for _, check in ray_checks]
    return [*_store(found.store), _store_disk(found), _data(found), _clocks(found), *nodes]


def failed(made: Sequence[Verdict]) -> bool:
    """Whether a run should not start."""
    return any(verdict.status == "FAIL" for verdict in made)


def summary(made: Sequence[Verdict]) -> str:
    """What a job says where all is well."""
    passed = sum(verdict.status == "ok" for verdict in made)
    left = [verdict.check for verdict in made if verdict.found == EACH_WORKER]
    return f"Preflight: {passed} checks passed" + (
        f"; each worker looks for itself: {', '.join(left)}." if left else "."
    )


def _store(store: StoreFound) -> list[Verdict]:
    names = ("store reachable", "store writable", "conditional writes")
    troubles = (store.unreachable, store.unwritable, store.overwrites)
    fine = (f"{store.url} answers", "a probe was written, read and deleted", "honoured")
    made: list[Verdict] = []
    for name, trouble, well in zip(names, troubles, fine, strict=True):
        if any(before.status == "FAIL" for before in made):
            made.append(Verdict(name, "skip", "see above"))
        else:
            made.append(Verdict(name, "FAIL" if trouble else "ok", trouble or well))
    return made


def _store_disk(found: Found) -> Verdict:
    name, free = "store's space", found.store.free_bytes
    needed = (found.needed_bytes or 0) + STORE_SPARE_BYTES
    keeps = "" if found.needed_bytes is None else f"; the sweep keeps at most {_size(needed)}"
    if free is None:
        return Verdict(name, "ok", f"a bucket has no bound{keeps}")
    what = f"{_size(free)} free{keeps}"
    if free >= needed:
        return Verdict(name, "ok", what)
    return Verdict(name, "FAIL", what, "make room there, or give a --store that has it")


def _data(found: Found) -> Verdict:
    lacking = _names(_answering(found.ray), lambda node: node.lacks_images)
    if found.no_data is not None:
        return Verdict("data", "FAIL", found.no_data)
    if lacking:
        what = f"{found.data} is not on {lacking}"
        return Verdict("data", "FAIL", what, "every node must see it, under the same path")
    return Verdict("data", "ok", found.data)


def _clocks(found: Found) -> Verdict:
    seen = {node.name: node.ahead_s for node in _answering(found.ray)}
    seen["the store's server"] = found.store.ahead_s
    offsets = {name: ahead for name, ahead in seen.items() if ahead is not None}
    off = {name: ahead for name, ahead in offsets.items() if abs(ahead) >= CLOCK_WARN_S}
    if not off:
        if offsets:
            what = f"{len(offsets)} other clock(s), less than {CLOCK_WARN_S:.0f} s off this one"
            return Verdict("clocks", "ok", what)
        if isinstance(found.ray, RayFound) and found.ray.local:
            return Verdict("clocks", "ok", "there is this machine's alone")
        return Verdict("clocks", "skip", "no other clock was seen")
    worst = max(map(abs, off.values()))
    what = ", ".join(
        f"{name} is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine"
        for name, ahead in off.items()
    )
    status: Level = "FAIL" if worst >= CLOCK_FAIL_S else "warn"
    return Verdict("clocks", status, what, "set the clocks by NTP: S3 refuses 15 minutes")


def _nodes(found: Found, ray: RayFound) -> Verdict:
    silent = [node for node in ray.nodes if node.silent is not None]
    answering = len(ray.nodes) - len(silent)
    busy = "; ".join(f"{n.name}: {n.busy}: not looked at" for n in ray.nodes if n.busy)
    if ray.no_room is not None:
        return Verdict("nodes", "FAIL", ray.no_room)
    if silent:
        what = "; ".join(f"{node.name} does not answer: {node.silent}" for node in silent)
        what = "; ".join(filter(None, (what, busy)))
        remedy = "look at that node, or drain it; a busy one answers later"
        return Verdict("nodes", "warn" if answering else "FAIL", what, remedy)
    if busy:
        return Verdict("nodes", "warn", busy, "a worker that starts there looks for itself")
    where = f"{answering} node(s) with room for a worker answer" if answering else "this machine"
    return Verdict("nodes", "ok", where)


def _versions(found: Found, ray: RayFound) -> Verdict:
    ours = found.versions
    said = ", ".join(f"{name} {version}" for name, version in ours.items())
    if _skips(ray):
        return Verdict("versions", "ok", f"this machine's: {said}")
    if not _answering(ray):
        return _unseen("versions", ray)
    other = [
        f"{node.name} has {name} {node.versions.get(name, 'unknown')}, the driver {version}"
        for node in _answering(ray)
        for name, version in ours.items()
        if node.versions.get(name) != version
    ]
    if other:
        remedy = "install the same on every node, best by one image"
        return Verdict("versions", "FAIL", "; ".join(other), remedy)
    return Verdict("versions", "ok", f"equal: {said}")


def _devices(found: Found, ray: RayFound) -> Verdict:
    looked_at = _with_device(ray)
    if _skips(ray) or not looked_at:
        return _unseen("devices", ray)
    broken = [f"{n.name}: {n.device_trouble}" for n in looked_at if n.device_trouble]
    if broken:
        return Verdict("devices", "FAIL", "; ".join(broken))
    seen = "; ".join(f"{node.name}: {_device(node)}" for node in looked_at)
    short = _names(looked_at, lambda node: (node.free_memory or MEMORY_BYTES) < MEMORY_BYTES)
    if short:
        remedy = f"end what else runs on {short}: a worker needs {_size(MEMORY_BYTES)}"
        return Verdict("devices", "warn", seen, remedy)
    if ray.idle_gpus:
        remedy = "give --gpus-per-worker, or say --device cpu"
        what = f"the cluster has {ray.idle_gpus:g} GPU(s) that no worker asks for; {seen}"
        return Verdict("devices", "warn", what, remedy)
    return Verdict("devices", "ok", seen)


def _exactness(found: Found, ray: RayFound) -> Verdict:
    tried = [node for node in _with_device(ray) if node.device_trouble is None]
    if _skips(ray) and not found.exact:
        return Verdict("exactness", "skip", "each row of its tables says what was exact")
    if _skips(ray) or not tried:
        return _unseen("exactness", ray)
    # a sweep of single networks says itself, row by row, what was exact
    broken: Level = "FAIL" if found.exact else "warn"
    if drifting := _names(tried, lambda node: not node.exact):
        what = f"on {drifting} Z-IL's weights are not those of torch.autograd"
        remedy = f"take these nodes out, or another build of torch; {RUN_ANYWAY}"
        return Verdict("exactness", broken, what, remedy)
    if restless := _names(tried, lambda node: node.packing == "irreproducible"):
        what = f"on {restless} a trial does not repeat itself"
        return Verdict("exactness", broken, what, f"take these nodes out; {RUN_ANYWAY}")
    ways = {node.name: f"{node.packing}, by {node.kernel}" for node in tried}
    how = "; ".join(f"{', '.join(n for n in ways if ways[n] == w)}: {w}" for w in _once(ways))
    what = f"Z-IL equals torch.autograd bit for bit; {how}"
    if found.exact and any(node.packing == "alone" for node in tried):
        remedy = "trials are trained one by one there, slower; with --cpus-per-worker 1 perhaps not"
        return Verdict("exactness", "warn", what, remedy)
    return Verdict("exactness", "ok", what)


def _ray_disk(found: Found, ray: RayFound) -> Verdict:
    disks = {node.name: node.disk for node in _answering(ray)}
    if ray.disk is not None:
        disks["this machine"] = ray.disk
    if not disks:
        return _unseen("Ray's disk", ray)
    what = "; ".join(f"{name}: {_size(free)} free" for name, (free, _) in disks.items())
    remedy = "make room on the disk of Ray's temporary folder, or start Ray with another --temp-dir"
    if any(free < RAY_DISK_BYTES for free, _ in disks.values()):
        return Verdict("Ray's disk", "FAIL", what, remedy)
    if any(free < RAY_DISK_SHARE * total for free, total in disks.values()):
        return Verdict("Ray's disk", "warn", f"{what}, less than 5 %", remedy)
    return Verdict("Ray's disk", "ok", what)


def _token(found: Found, ray: RayFound) -> Verdict:
    if ray.demands_token:
        return Verdict("token", "ok", "Ray asks for it")
    if ray.demands_token is None:
        what = "whether Ray asks for a token could not be told"
        return Verdict("token", "warn", what, "see that every node has RAY_AUTH_MODE=token")
    what = "Ray runs what anyone who reaches it sends"
    remedy = "export RAY_AUTH_MODE=token on every node and here, and start Ray anew"
    return Verdict("token", "warn" if ray.local else "FAIL", what, f"{remedy}; {RUN_ANYWAY}")


def _dashboard(found: Found, ray: RayFound) -> Verdict:
    there = ray.dashboard
    if there is None:
        return Verdict("dashboard", "ok", "there is none")
    if there.status is None:
        what = f"{there.url} does not answer on its machine"
        return Verdict("dashboard", "warn", what, "see that it is there, and not public")
    if there.status in (401, 403):
        return Verdict("dashboard", "ok", f"{there.url} asks for a token")
    if not there.public:
        return Verdict("dashboard", "ok", f"{there.url}, on its machine's loopback interface alone")
    remedy = "start Ray with --dashboard-host 127.0.0.1 and RAY_AUTH_MODE=token"
    what = f"{there.url} is public and takes jobs without a token"
    return Verdict("dashboard", "FAIL", what, f"{remedy}; {RUN_ANYWAY}")


def _skips(ray: RayFound) -> bool:
    """Whether the nodes were not asked, as there is this machine only."""
    return ray.local and not ray.nodes and ray.no_room is None


def _unseen(check: str, ray: RayFound) -> Verdict:
    if _skips(ray):
        return Verdict(check, "skip", EACH_WORKER)
    return Verdict(check, "skip", "see above" if _answering(ray) else "no node answered")


def _answering(ray: RayFound | str) -> list[NodeFound]:
    return [] if isinstance(ray, str) else [node for node in ray.nodes if node.silent is None]


def _with_device(ray: RayFound) -> list[NodeFound]:
    return [node for node in _answering(ray) if node.busy is None]


def _names(nodes: Sequence[NodeFound], which: Callable[[NodeFound], bool]) -> str:
    return ", ".join(node.name for node in nodes if which(node))


def _once(ways: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys(ways.values()))


def _device(node: NodeFound) -> str:
    free = "" if node.free_memory is None else f", {_size(node.free_memory)} of memory free"
    more = f", one of {node.gpus:g} GPUs" if node.gpus > 1 and "cuda" in node.device else ""
    return node.device + more + free


def _size(count: float) -> str:
    for unit, size in (("MB", 1e6), ("GB", 1e9)):
        if count < 999.5 * size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e12:,.3g} TB"

"""Judges what was found before a sweep. These functions are pure: they use no Ray and no clock.

`cluster.preflight.look` finds the facts. `jobs.preflight` prints all verdicts; a job prints only
those that are not ok.
"""

from cluster.preflight.findings import Found, RayFound, StoreFound
from cluster.preflight.ray_checks import RAY_CHECKS, answering, names_of, size
from cluster.preflight.verdicts import Judged, Level, Verdict
from pcworker.text import counted

CLOCK_WARN_S = 10.0
"""A clock that is this many seconds off is worth a warning: a driver, or `jobs.status`, takes a
driver for gone if its last sign of life is 30 s old."""
CLOCK_FAIL_S = 300.0
"""A clock that is this many seconds off must be set first: S3 refuses requests whose time is 15
minutes off."""
STORE_SPARE_BYTES = 20 * 10**6
"""The bytes that a sweep stores besides its weights."""


def verdicts(found: Found) -> list[Verdict]:
    """Makes one verdict for each check, in a fixed order."""
    judged = [
        *_store(found.store),
        ("store's space", _space(found)),
        ("data", _data(found)),
        ("clocks", _clocks(found)),
        *_ray(found),
    ]
    return [Verdict(check, *outcome) for check, outcome in judged]


def _store(store: StoreFound) -> list[tuple[str, Judged]]:
    """Three checks. After one has failed, the others cannot be made."""
    checks = (
        ("store reachable", store.unreachable, f"{store.url} answers"),
        ("store writable", store.unwritable, "a probe was written, read and deleted"),
        ("conditional writes", store.overwrites, "honoured"),
    )
    made: list[tuple[str, Judged]] = []
    fails = False
    for name, trouble, well in checks:
        outcome = Judged("FAIL", trouble) if trouble else Judged("ok", well)
        made.append((name, Judged("skip", "see above") if fails else outcome))
        fails = fails or bool(trouble)
    return made


def _space(found: Found) -> Judged:
    free = found.store.free_bytes
    needed = (found.needed_bytes or 0) + STORE_SPARE_BYTES
    keeps = "" if found.needed_bytes is None else f"; the sweep keeps at most {size(needed)}"
    if free is None:
        return Judged("ok", f"a bucket has no bound{keeps}")
    what = f"{size(free)} free{keeps}"
    if free >= needed:
        return Judged("ok", what)
    return Judged("FAIL", what, "make room there, or give a --store that has it")


def _data(found: Found) -> Judged:
    if found.no_data is not None:
        return Judged("FAIL", found.no_data)
    if lacking := names_of(answering(found.ray), lambda node: node.lacks_images):
        remedy = "every node must see it, under the same path"
        return Judged("FAIL", f"{found.data} is not on {lacking}", remedy)
    return Judged("ok", found.data)


def _clocks(found: Found) -> Judged:
    seen = {node.name: node.ahead_s for node in answering(found.ray)}
    seen["the store's server"] = found.store.ahead_s
    offsets = {name: ahead for name, ahead in seen.items() if ahead is not None}
    off = {name: ahead for name, ahead in offsets.items() if abs(ahead) >= CLOCK_WARN_S}
    if off:
        what = ", ".join(
            f"{name} is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine"
            for name, ahead in off.items()
        )
        status: Level = "FAIL" if max(map(abs, off.values())) >= CLOCK_FAIL_S else "warn"
        return Judged(status, what, "set the clocks by NTP: S3 refuses 15 minutes")
    if offsets:
        others = counted(len(offsets), "other clock")
        what = f"{others}, less than {CLOCK_WARN_S:.0f} s off this one"
        return Judged("ok", what)
    if found.ray is None or (isinstance(found.ray, RayFound) and found.ray.local):
        return Judged("ok", "there is this machine's alone")
    return Judged("skip", "no other clock was seen")


def _ray(found: Found) -> list[tuple[str, Judged]]:
    """The checks of the cluster, if the workers need one. They need a Ray that can be reached."""
    ray = found.ray
    if ray is None:
        return []
    if isinstance(ray, RayFound):
        return [(name, check(found, ray)) for name, check in RAY_CHECKS]
    unreached = Judged("skip", "Ray cannot be reached")
    made = [(name, unreached) for name, _ in RAY_CHECKS if name != "nodes"]
    return [("nodes", Judged("FAIL", ray)), *made]

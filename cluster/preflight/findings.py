"""What a look before a sweep finds: values, from which `verdicts` makes verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StoreFound:
    """What the driver sees of the store. A trouble is what its StoreError says."""

    url: str
    unreachable: str | None = None
    unwritable: str | None = None
    overwrites: str | None = None
    ahead_s: float | None = None
    """Of the driver's clock, by as much as is certain; None where the store has no clock."""
    free_bytes: int | None = None
    """Of a directory's file system."""


@dataclass(frozen=True)
class NodeFound:
    """What a node that has room for a worker says; `cluster.preflight.node` has the words."""

    name: str
    silent: str | None = None
    """Why there is no answer; the rest is empty then."""
    ahead_s: float | None = None
    """None where its clock was not seen."""
    versions: Mapping[str, str] = field(default_factory=dict)
    disk: tuple[int, int] = (0, 0)
    """Bytes: free, in all."""
    lacks_images: bool = False
    gpus: float = 0.0
    """That the node has, for workers that ask for one; the device is one of them."""
    busy: str | None = None
    """Why none of its GPUs could be looked at; what follows is empty then."""
    device: str = ""
    device_trouble: str | None = None
    free_memory: int | None = None
    exact: bool = False
    packing: str = ""
    kernel: str = ""


@dataclass(frozen=True)
class DashboardFound:
    """Of a cluster that has one."""

    url: str
    status: int | None
    """HTTP's, to a request without a token; None: no answer."""
    public: bool
    """Whether it listens not only at its machine's loopback address."""


@dataclass(frozen=True)
class RayFound:
    """What the driver sees of the cluster."""

    local: bool
    """Whether it is the driver's own, on this machine."""
    nodes: tuple[NodeFound, ...]
    """Those with room for a worker; of a local Ray perhaps none, as its one node is this machine
    and this Python."""
    no_room: str | None = None
    """Why the workers do not fit."""
    idle_gpus: float = 0.0
    """That the cluster has, and workers of device "auto" do not ask for."""
    demands_token: bool | None = None
    """None where that could not be told."""
    dashboard: DashboardFound | None = None
    disk: tuple[int, int] | None = None
    """Of this machine; None: see the nodes."""


@dataclass(frozen=True)
class Found:
    """All of it."""

    store: StoreFound
    ray: RayFound | str
    """Or why it cannot be reached."""
    data: str
    no_data: str | None
    versions: Mapping[str, str]
    """The driver's."""
    needed_bytes: float | None = None
    """What the weights of the sweep take in the store, at most; None without a sweep."""
    exact: bool = True
    """Whether the results of the sweep rest on exactness."""

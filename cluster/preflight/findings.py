"""The facts that the preflight finds, as plain values. `cluster.preflight.checks` judges them."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StoreFound:
    """The driver's view of the store. Each trouble is the text of a StoreError, or None."""

    url: str
    unreachable: str | None = None
    """Why the store cannot be read."""
    unwritable: str | None = None
    """Why the store cannot be written."""
    overwrites: str | None = None
    """Why conditional writes cannot be relied on."""
    ahead_s: float | None = None
    """Seconds by which the server's clock is ahead of the driver's, at least. None: the store has
    no clock."""
    free_bytes: int | None = None
    """Free bytes of the file system that holds the store's directory. None: it is a bucket."""


@dataclass(frozen=True)
class NodeFound:
    """The answers of one node that has room for a worker. `cluster.preflight.node` collects them
    there."""

    name: str
    silent: str | None = None
    """Why the node did not answer; all other fields are then empty. None: it answered."""
    ahead_s: float | None = None
    """Seconds by which the node's clock is ahead of the driver's, at least. None: it is unknown."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """The versions of Python, of the libraries and of this project on the node."""
    disk: tuple[int, int] = (0, 0)
    """The free and the total bytes of the disk that Ray writes to."""
    lacks_images: bool = False
    """True if the node does not see the directory of images that the workers will read."""
    gpus: float = 0.0
    """The number of GPUs of the node, if workers ask for GPUs. `device` is one of them."""
    busy: str | None = None
    """Why none of the node's GPUs could be looked at; the fields below are then empty."""
    device: str = ""
    """The name of the device on which a worker would compute."""
    device_trouble: str | None = None
    """Why that device cannot be used. None: it works."""
    free_memory: int | None = None
    """Free bytes of the device's memory. None: they are unknown."""
    exact: bool = False
    """True if Z-IL's weights equal those of torch.autograd bit for bit on this device."""
    packing: str = ""
    """The packing that works there: "stacked", "alone" or "irreproducible"
    (`pcworker.kernels.kernel.Packing`)."""
    kernel: str = ""
    """The kernel that would train there: "phases.c", "fused.c" or "torch"."""


@dataclass(frozen=True)
class DashboardFound:
    """The dashboard of a cluster that has one."""

    url: str
    status: int | None
    """The HTTP status with which it answered a request without a token; None: no answer."""
    public: bool
    """True if it listens on more than the loopback address of its machine."""


@dataclass(frozen=True)
class RayFound:
    """The driver's view of the cluster."""

    local: bool
    """True if the driver has started this Ray itself, on its own machine."""
    nodes: tuple[NodeFound, ...]
    """The nodes with room for a worker. It may be empty for a local Ray, whose only node is this
    machine, and for a cluster whose nodes are still to come."""
    no_room: str | None = None
    """Why the workers will never fit on the cluster. None: they do, or may when nodes join."""
    lack: str | None = None
    """How few of the workers fit on the nodes that are there. None: all fit."""
    idle_gpus: float = 0.0
    """GPUs that would stay idle because --device is auto and --gpus-per-worker is 0."""
    demands_token: bool | None = None
    """True if Ray refuses clients without a token. None: it could not be told."""
    dashboard: DashboardFound | None = None
    disk: tuple[int, int] | None = None
    """The free and the total bytes of Ray's disk on this machine. None: each node has its own."""


@dataclass(frozen=True)
class Found:
    """All facts that one preflight has found."""

    store: StoreFound
    ray: RayFound | str | None
    """A string says why Ray cannot be reached. None: the workers need no Ray."""
    data: str
    """The data set, in words."""
    no_data: str | None
    """Why the data cannot be found. None: they were found."""
    versions: Mapping[str, str]
    """The driver's own versions of Python, of the libraries and of this project."""
    needed_bytes: float | None = None
    """The bytes that the sweep's weights take in the store, at most. None: there is no sweep."""
    exact: bool = True
    """True if the results of the sweep rely on exactness."""
    sums: str = "fixed"
    """The sums of its trials."""
    same_everywhere: bool = False
    """True if workers start so that torch's own sums are meant to be the same on all nodes."""

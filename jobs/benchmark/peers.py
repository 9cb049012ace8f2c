"""Times weight updates of other libraries, in a process of their own.

`jobs.benchmark` runs this file with the Python of the peers' environment, so this file imports
nothing of the project.

    python peers.py TASK.npz

It first prints which peers it can run. Then it answers requests, each a line of JSON:

    {"run": "pcx Z-IL", "updates": 100}         ->  {"seconds": 0.05}
    {"weights": "pcx Z-IL", "to": "PATH"}       ->  {"weights": "PATH"}, an .npz of w0, w1, ...

TASK.npz holds the initial weights w0, w1, ... [n_l, n_{l+1}] from the output layer to the input
layer, the batches x [K, B, pixels] and y [K, B, classes], and the rates alpha (for a sum over the
batch) and gamma. Every peer is driven as its own documentation does it: pcx by one jit with the
steps unrolled (its tutorials 0 and 6), FabricPC by one jit around the training step that it makes
for a user's own loop. Batches are on the device before the clock starts. The clock stops when the
last weights have been computed.
"""

import gc
import importlib.metadata
import json
import os
import sys
import time
from itertools import pairwise
from typing import Any

# The benchmark uses one core, so XLA may start no threads to share work with or to hand work to.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import optax

jax.config.update("jax_cpu_enable_async_dispatch", False)

INFERENCE_STEPS = {"IL, 20 steps": 20, "IL, 64 steps": 64}
"""The number of inference steps before the weights change, by rule."""


class Task:
    """The task that all peers learn: initial weights, batches and rates."""

    def __init__(self, path: str) -> None:
        with np.load(path, allow_pickle=False) as given:
            layers = sum(name[0] == "w" for name in given.files)
            self.weights = [given[f"w{l}"] for l in reversed(range(layers))]
            """The weights from the input layer to the output layer, each [n_l, n_{l+1}]."""
            x, y = given["x"], given["y"]
            self.alpha, self.gamma = float(given["alpha"]), float(given["gamma"])
        self.batches = [(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(x, y, strict=True)]
        self.batch_size = x.shape[1]


def pcx_network(task: Task) -> Any:
    """A network of pcx with mu = W f(x), like ours: the input enters without f."""
    import pcx.nn as pxnn
    import pcx.predictive_coding as pxc

    class Network(pxc.EnergyModule):  # type: ignore[misc]
        """Dense layers with a value node after each; the last one is clamped."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = [pxnn.Linear(w.shape[1], w.shape[0], bias=False) for w in task.weights]
            for layer, w in zip(self.layers, task.weights, strict=True):
                layer.nn.weight.set(jnp.asarray(w))
            self.vodes = [pxc.Vode() for _ in task.weights]
            self.vodes[-1].h.frozen = True

        def __call__(self, x: Any, y: Any) -> Any:
            for i, (vode, layer) in enumerate(zip(self.vodes, self.layers, strict=True)):
                x = vode(layer(x if i == 0 else jax.nn.sigmoid(x)))
            if y is not None:
                self.vodes[-1].set("h", y)
            return self.vodes[-1].get("u")

    return Network()


def pcx_passes() -> tuple[Any, Any]:
    """Returns two functions: one starts inference, the other computes the gradient of the energy
    with respect to the parameters that a mask selects."""
    import pcx.functional as pxf
    import pcx.predictive_coding as pxc
    import pcx.utils as pxu

    by_sample = pxu.M(pxc.VodeParam | pxc.VodeParam.Cache).to((None, 0))

    @pxf.vmap(by_sample, in_axes=(0, 0), out_axes=0)  # type: ignore[untyped-decorator]
    def forward(x: Any, y: Any, *, model: Any) -> Any:
        return model(x, y)

    @pxf.vmap(  # type: ignore[untyped-decorator]
        by_sample, in_axes=(0,), out_axes=(None, 0), axis_name="batch"
    )
    def energy(x: Any, *, model: Any) -> Any:
        y = model(x, None)
        return jax.lax.psum(model.energy(), "batch"), y

    def start(x: Any, y: Any, model: Any, optim_h: Any) -> None:
        model.train()
        with pxu.step(model, pxc.STATUS.INIT, clear_params=pxc.VodeParam.Cache):
            forward(x, y, model=model)
        optim_h.init(pxu.M_hasnot(pxc.VodeParam, frozen=True)(model))

    def slope(mask: Any, x: Any, model: Any) -> Any:
        with pxu.step(model, clear_params=pxc.VodeParam.Cache):
            _, g = pxf.value_and_grad(mask, has_aux=True)(energy)(x, model=model)
        return g["model"]

    return start, slope


def pcx_il(steps: int) -> Any:
    """A weight update of IL after `steps` inference steps, in one jit."""
    import pcx.functional as pxf
    import pcx.nn as pxnn
    import pcx.predictive_coding as pxc
    import pcx.utils as pxu

    start, slope = pcx_passes()
    activities = pxu.M_hasnot(pxc.VodeParam, frozen=True).to([False, True])
    weights = pxu.M(pxnn.LayerParam).to([False, True])

    @pxf.jit()  # type: ignore[untyped-decorator]
    def update(x: Any, y: Any, *, model: Any, optim_w: Any, optim_h: Any) -> None:
        start(x, y, model, optim_h)
        for _ in range(steps):
            optim_h.step(model, slope(activities, x, model))
        optim_w.step(model, slope(weights, x, model))
        optim_h.clear()

    return update


def pcx_zil() -> Any:
    """A weight update of Z-IL, in one jit. At step t only the weights of one layer and the activity
    that they are applied to are updated."""
    import pcx.functional as pxf
    import pcx.nn as pxnn
    import pcx.utils as pxu

    start, slope = pcx_passes()
    weights = pxu.M(pxnn.LayerParam).to([False, True])

    @pxf.jit()  # type: ignore[untyped-decorator]
    def update(x: Any, y: Any, *, model: Any, optim_w: Any, optim_h: Any) -> None:
        start(x, y, model, optim_h)
        for l in reversed(range(len(model.vodes))):
            mask = pxu.M(None).to([False, False])(model, is_pytree=True)
            if l > 0:
                mask.vodes[l - 1].h = True
            mask.layers[l] = weights(model.layers[l], is_pytree=True)
            g = slope({"model": mask}, x, model)
            optim_h.step(model, g)
            optim_w.step(model, g)
        optim_h.clear()

    return update


class Pcx:
    """A network of pcx and its optimisers."""

    def __init__(self, task: Task, rule: str) -> None:
        import pcx.nn as pxnn
        import pcx.predictive_coding as pxc
        import pcx.utils as pxu

        self._model, exact = pcx_network(task), rule == "Z-IL"
        weights = pxu.M(pxnn.LayerParam)(self._model)

        def sgd_w() -> Any:
            return optax.sgd(task.alpha)

        def sgd_h() -> Any:
            return optax.sgd(1.0 if exact else task.gamma)

        if exact:  # a step gives most parameters no gradient, so each has an optimiser of its own
            self._step = pcx_zil()
            self._optim_w = pxu.OptimTree(sgd_w, lambda x: isinstance(x, pxnn.Layer), weights)
            self._optim_h = pxu.OptimTree(sgd_h, lambda x: isinstance(x, pxc.Vode))
        else:
            self._step = pcx_il(INFERENCE_STEPS[rule])
            self._optim_w, self._optim_h = pxu.Optim(sgd_w, weights), pxu.Optim(sgd_h)

    def update(self, x: Any, y: Any) -> None:
        self._step(x, y, model=self._model, optim_w=self._optim_w, optim_h=self._optim_h)

    def weights(self) -> list[Any]:
        """The weights from the input layer to the output layer, each [n_l, n_{l+1}]."""
        return [layer.nn.weight.get() for layer in self._model.layers]


def fabricpc_graph(task: Task, steps: int) -> Any:
    """A graph of FabricPC with mu = f(W x), the only form that FabricPC has."""
    from fabricpc.core.activations import IdentityActivation, SigmoidActivation
    from fabricpc.core.inference import InferenceSGD
    from fabricpc.core.topology import Edge
    from fabricpc.graph_assembly import TaskMap, graph
    from fabricpc.nodes import Linear

    last = len(task.weights) - 1
    nodes = [Linear(shape=(task.weights[0].shape[1],), name="input", use_bias=False)]
    for i, w in enumerate(task.weights):
        f = IdentityActivation() if i == last else SigmoidActivation()
        made = Linear(shape=(w.shape[0],), name=f"layer{i}", activation=f, use_bias=False)
        nodes.append(made)
    return graph(
        nodes=nodes,
        edges=[Edge(source=a, target=b.slot("in")) for a, b in pairwise(nodes)],
        task_map=TaskMap(x=nodes[0], y=nodes[-1]),
        inference=InferenceSGD(eta_infer=task.gamma, infer_steps=steps),
    )


class FabricPC:
    """A graph of FabricPC and its training step. For BP it is FabricPC's mode "backprop"."""

    def __init__(self, task: Task, rule: str) -> None:
        from fabricpc.graph_initialization import initialize_params
        from fabricpc.training.trainer import make_train_step

        structure = fabricpc_graph(task, INFERENCE_STEPS.get(rule, 1))
        # States start from the predictions, so nothing is drawn with this key.
        self._key = jax.random.PRNGKey(0)
        self._params = initialize_params(structure, self._key)
        for i, w in enumerate(task.weights):
            own = self._params.nodes[f"layer{i}"].weights
            (edge,) = own
            own[edge] = jnp.asarray(w.T)
        # FabricPC divides gradients by the batch size, which this rate undoes.
        optimiser = optax.sgd(task.alpha * task.batch_size)
        algorithm: Any = "backprop" if rule == "BP" else "pc"
        step = make_train_step(structure, optimiser, algorithm=algorithm)
        self._state = optimiser.init(self._params)
        # The final state is not needed, and the new weights may take the memory of the old ones.
        self._step = jax.jit(lambda *given: step(*given)[:2], donate_argnums=(0, 1))
        self._layers = range(len(task.weights))

    def update(self, x: Any, y: Any) -> None:
        batch = {"x": x, "y": y}
        self._params, self._state = self._step(self._params, self._state, batch, self._key)

    def weights(self) -> list[Any]:
        """The weights from the input layer to the output layer, each [n_l, n_{l+1}]."""
        nodes = self._params.nodes
        return [w.T for i in self._layers for w in nodes[f"layer{i}"].weights.values()]


PEERS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "pcx": (Pcx, ("Z-IL", *INFERENCE_STEPS)),
    "fabricpc": (FabricPC, (*INFERENCE_STEPS, "BP")),
}
"""The class and the rules of each peer, by the name of its package."""


def seconds(runner: Any, task: Task, places: range) -> float:
    """The seconds in which `runner` learns the batches at these places. Places beyond the last
    batch start again at the first."""
    batches = [task.batches[place % len(task.batches)] for place in places]
    started = time.perf_counter()
    for x, y in batches:
        runner.update(x, y)
    jax.block_until_ready(runner.weights())
    return time.perf_counter() - started


def main() -> None:
    """Answers requests on the standard output. Whatever the libraries print goes to the standard
    error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    task = Task(sys.argv[1])
    runners, versions, failed = {}, {}, {}
    for peer, (make, rules) in PEERS.items():
        try:
            versions[peer] = importlib.metadata.version(peer)
            for rule in rules:
                runners[f"{peer} {rule}"] = make(task, rule)
        except Exception as error:  # if one peer does not work, the others still run
            failed[peer] = f"{type(error).__name__}: {error}"
    versions["jax"] = jax.__version__

    def say(answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    say({"peers": {p: r for p, (_, r) in PEERS.items()}, "versions": versions, "failed": failed})
    places = dict.fromkeys(runners, 0)
    gc.collect()
    gc.disable()  # a garbage collection would slow down only the peer that is timed at that moment
    for line in sys.stdin:
        request = json.loads(line)
        if name := request.get("run"):
            first = places[name]
            places[name] += request["updates"]
            say({"seconds": seconds(runners[name], task, range(first, places[name]))})
        else:
            learnt = [np.asarray(w) for w in runners[request["weights"]].weights()]
            np.savez(request["to"], **{f"w{l}": w for l, w in enumerate(reversed(learnt))})
            say({"weights": request["to"]})


if __name__ == "__main__":
    main()

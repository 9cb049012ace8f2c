"""Tests of the manifests that kustomize makes of infra/kuberay. Oracle: the official schemas."""

import copy
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import jsonschema
import kubernetes_validate
import pytest
import yaml
from command_lines import called

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ("cluster", "job")
KUBERNETES = "1.37"


@cache
def _rendered(overlay: str) -> str:
    """The text that `kubectl apply -k` would send."""
    kubectl = shutil.which("kubectl", path=Path(sys.executable).parent)
    assert kubectl is not None
    command = [kubectl, "kustomize", str(ROOT / "infra" / "kuberay" / overlay)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def rendered(overlay: str) -> dict[str, Any]:
    """The objects of an overlay, by kind. There is one of each kind."""
    documents = list(yaml.safe_load_all(_rendered(overlay)))
    by_kind = {document["kind"]: document for document in documents}
    assert len(by_kind) == len(documents)
    return by_kind


def cluster_of(objects: dict[str, Any]) -> dict[str, Any]:
    """The definition of the Ray cluster, which may stand inside a job."""
    if "RayJob" in objects:
        return objects["RayJob"]["spec"]["rayClusterSpec"]
    return objects["RayCluster"]["spec"]


def pods(objects: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The templates of all Ray pods, the head's first."""
    cluster = cluster_of(objects)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]


@cache
def schemas() -> dict[str, Any]:
    return closed(yaml.safe_load((ROOT / "tests" / "support" / "kuberay_crds.yaml").read_text()))


def closed(schema: Any) -> Any:
    """A copy of the schema that refuses fields which it does not name. A server does so with
    `kubectl apply --validate=strict`."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    # A property may itself have the name "properties". Only a schema has a type beside it.
    if made.get("type") == "object" and isinstance(made.get("properties"), dict):
        made.setdefault("additionalProperties", False)
    return made


def validate(objects: dict[str, Any]) -> None:
    """Raises jsonschema.ValidationError if an object or a pod's template breaks its schema."""
    for kind, thing in objects.items():
        if thing["apiVersion"].startswith("ray.io/"):
            plain = copy.deepcopy(thing)
            plain["metadata"] = {}  # KubeRay's schema does not describe it
            jsonschema.validate(plain, schemas()[kind])
        else:
            kubernetes_validate.validate(thing, KUBERNETES, strict=True)
    for template in pods(objects):
        metadata = {"name": "pod", **template["metadata"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_are_what_the_schemas_allow(overlay: str) -> None:
    validate(rendered(overlay))


def test_each_overlay_deploys_what_it_is_for() -> None:
    around = {"ServiceAccount", "NetworkPolicy", "PodDisruptionBudget"}
    assert set(rendered("cluster")) == around | {"RayCluster"}
    assert set(rendered("job")) == around | {"RayJob"}
    assert cluster_of(rendered("job")) == cluster_of(rendered("cluster"))


def _misspell(where: Callable[[dict[str, Any]], dict[str, Any]], field: str) -> Callable[..., None]:
    def plant(objects: dict[str, Any]) -> None:
        part = where(objects)
        part[field + "s"] = part.pop(field)

    return plant


def _head(objects: dict[str, Any]) -> dict[str, Any]:
    return cluster_of(objects)["headGroupSpec"]


def _ray(objects: dict[str, Any]) -> dict[str, Any]:
    return _head(objects)["template"]["spec"]["containers"][0]


def _drained(objects: dict[str, Any]) -> dict[str, Any]:
    """The hooks of a worker's container."""
    return [*pods(objects)][1]["spec"]["containers"][0]["lifecycle"]


def _unknown_mode(objects: dict[str, Any]) -> None:
    cluster_of(objects)["authOptions"]["mode"] = "tokens"


def _replicas_as_text(objects: dict[str, Any]) -> None:
    cluster_of(objects)["workerGroupSpecs"][0]["replicas"] = "4"


@pytest.mark.parametrize(
    "plant",
    [
        _misspell(cluster_of, "rayVersion"),
        _misspell(lambda o: cluster_of(o)["authOptions"], "mode"),
        _misspell(lambda o: cluster_of(o)["workerGroupSpecs"][1], "maxReplicas"),
        _misspell(lambda o: o["RayJob"]["spec"], "backoffLimit"),
        _misspell(lambda o: _head(o)["template"]["spec"], "nodeSelector"),
        _misspell(lambda o: _ray(o)["securityContext"], "allowPrivilegeEscalation"),
        _misspell(lambda o: _ray(o)["resources"], "limits"),
        _misspell(lambda o: o["NetworkPolicy"]["spec"], "podSelector"),
        _misspell(lambda o: o["PodDisruptionBudget"]["spec"], "minAvailable"),
        _misspell(_drained, "preStop"),
        _misspell(lambda o: o["ServiceAccount"], "automountServiceAccountToken"),
        _unknown_mode,
        _replicas_as_text,
    ],
)
def test_a_planted_mistake_is_found(plant: Callable[[dict[str, Any]], None]) -> None:
    objects = copy.deepcopy(rendered("job"))
    plant(objects)
    with pytest.raises(jsonschema.ValidationError):
        validate(objects)


def test_the_version_of_ray_is_the_pinned_one() -> None:
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert cluster_of(rendered("cluster"))["rayVersion"] == pinned[1]


def test_an_operator_fills_in_the_settings_and_the_command_and_nothing_else() -> None:
    """A placeholder is a word of at least three capital letters."""
    settings = yaml.safe_load((ROOT / "infra/kuberay/base/settings.yaml").read_text())["spec"]
    objects = rendered("job")
    account = objects["ServiceAccount"]["metadata"]["annotations"]
    assert account == {"eks.amazonaws.com/role-arn": settings["role"]}
    for template in pods(objects):
        assert [c["image"] for c in template["spec"]["containers"]] == [settings["image"]]
    sizes = {g["groupName"]: g["maxReplicas"] for g in cluster_of(objects)["workerGroupSpecs"]}
    assert sizes == {"cpu": settings["cpuWorkers"], "gpu": settings["gpuWorkers"]}
    text = _rendered("job").replace(settings["role"], "").replace(settings["image"], "")
    words = {"TCP", "UDP", "ALL", "SUCCEEDED"}
    assert set(re.findall(r"\b[A-Z]{3,}\b", text)) - words == {"BUCKET"}


def test_the_role_is_the_one_that_the_runbook_makes() -> None:
    """The service account must be the runbook's too, because the role trusts no other."""
    runbook = (ROOT / "infra" / "README.md").read_text()
    (account, role) = re.findall(r"--name (\S+) --role-name (\S+)", runbook)[0]
    made = rendered("job")["ServiceAccount"]["metadata"]
    assert made["name"] == account
    assert made["annotations"]["eks.amazonaws.com/role-arn"].endswith(f":role/{role}")


def test_the_jobs_command_has_no_mistake(tmp_path: Path) -> None:
    """The runbook advises to try the command with --plan before machines are started for it."""
    entrypoint = rendered("job")["RayJob"]["spec"]["entrypoint"]
    python, *arguments = entrypoint.replace("s3://BUCKET/zilsweep", str(tmp_path)).split()
    assert (python, arguments[0]) == ("python", "-m") and str(tmp_path) in arguments
    done = called(*arguments[2:], "--plan", module=arguments[1])
    assert (done.code, done.stderr) == (0, "")
    assert "Nothing was started" in done.stdout


def test_the_jobs_command_asks_for_all_gpus_and_for_no_more() -> None:
    objects = rendered("job")
    command = objects["RayJob"]["spec"]["entrypoint"].split()
    [gpus] = [g for g in cluster_of(objects)["workerGroupSpecs"] if g["groupName"] == "gpu"]
    assert int(command[command.index("--workers") + 1]) == gpus["maxReplicas"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_come_from_none_and_go_by_the_second_autoscaler(overlay: str) -> None:
    """What KubeRay's operator asks of such a cluster is in its `ValidateRayClusterSpec`."""
    cluster = cluster_of(rendered(overlay))
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    for group in cluster["workerGroupSpecs"]:
        assert (group["replicas"], group["minReplicas"]) == (0, 0)
    for template in pods(rendered(overlay)):
        assert template["spec"]["restartPolicy"] == "Never"


def test_what_is_deleted_after_a_job_is_what_the_operator_allows() -> None:
    """The rules are those of `validateDeletionConfiguration` and `validateDeletionRules` of KubeRay
    1.7, which its schema does not hold."""
    job = rendered("job")["RayJob"]["spec"]
    assert not {"shutdownAfterJobFinishes", "ttlSecondsAfterFinished"} & set(job)
    rules = job["deletionStrategy"]["deletionRules"]
    assert {rule["policy"] for rule in rules} == {"DeleteCluster"}  # no DeleteWorkers
    ends = [{*rule["condition"].items()} - {("ttlSeconds", 600)} for rule in rules]
    assert ends == [{("jobStatus", "SUCCEEDED")}, {("jobDeploymentStatus", "Failed")}]


def test_only_the_autoscaler_has_a_token_for_kubernetes() -> None:
    objects = rendered("cluster")
    assert objects["ServiceAccount"]["automountServiceAccountToken"] is False
    head, *workers = pods(objects)
    [volume] = head["spec"]["volumes"]
    assert [*volume["projected"]["sources"][0]] == ["serviceAccountToken"]
    [mount] = cluster_of(objects)["autoscalerOptions"]["volumeMounts"]
    assert mount["name"] == volume["name"]
    for template in (head, *workers):
        spec = template["spec"]
        assert "automountServiceAccountToken" not in spec
        assert not any("volumeMounts" in container for container in spec["containers"])
    assert not any("volumes" in template["spec"] for template in workers)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_is_root_or_holds_a_key(overlay: str) -> None:
    objects = rendered(overlay)
    assert cluster_of(objects)["authOptions"] == {"mode": "token"}
    assert "Secret" not in objects
    account = objects["ServiceAccount"]["metadata"]["name"]
    autoscaler = cluster_of(objects)["autoscalerOptions"]["securityContext"]
    for template in pods(objects):
        spec = template["spec"]
        assert all(c["securityContext"] == autoscaler for c in spec["containers"])
        assert spec["serviceAccountName"] == account
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"]
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert not {"env", "envFrom"} & set(container)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_head_stays_and_workers_may_be_spot(overlay: str) -> None:
    head, *workers = pods(rendered(overlay))
    assert head["spec"]["nodeSelector"] == {"karpenter.sh/capacity-type": "on-demand"}
    for worker in workers:
        affinity = worker["spec"]["affinity"]["nodeAffinity"]
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        (expression,) = term["matchExpressions"]
        assert expression["values"] == ["spot", "on-demand"]
        resources = worker["spec"]["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_workers_are_drained_before_they_end_and_the_head_is_not_evicted(overlay: str) -> None:
    """The hook's command is parsed by Ray's own parser. The time that it gives must be left when
    it has run, before Kubernetes kills the pod."""
    from ray.scripts.scripts import cli

    head, *workers = pods(rendered(overlay))
    for worker in workers:
        [container] = worker["spec"]["containers"]
        ray, *words = container["lifecycle"]["preStop"]["exec"]["command"]
        name, command, rest = cli.resolve_command(click.Context(cli), words)
        assert (ray, name) == ("ray", "drain-node") and command is not None
        given = command.make_context("drain-node", rest).params
        assert given["reason"] == "DRAIN_NODE_REASON_PREEMPTION"
        slack = (
            worker["spec"]["terminationGracePeriodSeconds"] - given["deadline_remaining_seconds"]
        )
        assert slack >= 30
    budget = rendered(overlay)["PodDisruptionBudget"]["spec"]
    chosen = budget["selector"]["matchLabels"]
    assert budget["minAvailable"] == 1
    # KubeRay itself gives the second label to the head
    assert chosen == {**head["metadata"]["labels"], "ray.io/node-type": "head"}


def test_the_network_policy_is_of_all_pods_of_ray_and_opens_the_dashboard_alone() -> None:
    objects = rendered("cluster")
    policy = objects["NetworkPolicy"]["spec"]
    for template in pods(objects):
        assert (
            policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        )
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    among, dashboard = policy["ingress"]
    assert among == {"from": [{"podSelector": policy["podSelector"]}]}
    assert [port["port"] for port in dashboard["ports"]] == [8265]

"""Tests of the cluster file of `ray up`. Oracles: Ray's own checks, botocore, moto."""

import copy
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import jsonschema
import pytest
import yaml
from aws_stack import (
    PARAMETERS,
    WORKER_TYPES,
    autoscaler_statements,
    may_start,
    resources,
    template,
)
from botocore.validate import ParamValidator
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import TAG_RAY_NODE_NAME, TAG_RAY_USER_NODE_TYPE
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

FILE = Path(__file__).resolve().parents[2] / "infra" / "aws" / "cluster.yaml"


def read() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def validate(config: dict[str, Any]) -> dict[str, Any]:
    """Checks the file as `ray up` does before it talks to a cloud, and the requests by EC2's model.
    Returns the file with Ray's defaults."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    ec2 = botocore.session.get_session().get_service_model("ec2")
    shape = ec2.operation_model("RunInstances").input_shape
    for name, node in prepared["available_node_types"].items():
        asked = {**node["node_config"], "MinCount": 1, "MaxCount": 1}
        if report := ParamValidator().validate(asked, shape).generate_report():
            raise ValueError(f"{name}: {report}")
    return prepared


def test_ray_and_ec2_take_it() -> None:
    validate(read())


def _in_a_node(config: dict[str, Any]) -> None:
    node = config["available_node_types"]["gpu-spot"]["node_config"]
    node["InstanceMarketOption"] = node.pop("InstanceMarketOptions")


def _in_a_disk(config: dict[str, Any]) -> None:
    node = config["available_node_types"]["head"]["node_config"]
    node["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] = "100 GB"


def _at_the_top(config: dict[str, Any]) -> None:
    config["idle_timeout"] = config.pop("idle_timeout_minutes")


def _in_a_type(config: dict[str, Any]) -> None:
    config["available_node_types"]["gpu-spot"]["max_worker"] = 8


def _head_type(config: dict[str, Any]) -> None:
    config["head_node_type"] = "haed"


@pytest.mark.parametrize("plant", [_in_a_node, _in_a_disk, _at_the_top, _in_a_type, _head_type])
def test_a_planted_mistake_is_found(plant: Callable[[dict[str, Any]], None]) -> None:
    config = read()
    plant(config)
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        validate(config)


def test_workers_fall_back_from_spot_to_the_same_machine_on_demand() -> None:
    types = validate(read())["available_node_types"]
    spot, demand = types["gpu-spot"], types["gpu-on-demand"]
    assert spot["priority"] > demand["priority"]
    assert spot["resources"] == demand["resources"]
    market = {"InstanceMarketOptions": {"MarketType": "spot"}}
    assert spot["node_config"] == demand["node_config"] | market
    assert "InstanceMarketOptions" not in types["head"]["node_config"]


def test_the_dashboard_listens_on_loopback_and_the_token_is_on_every_node() -> None:
    config = validate(read())
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]
    assert config["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    assert "RAY_AUTH_MODE=token" in (FILE.parent.parent / "Dockerfile").read_text()


def test_nodes_have_the_roles_of_the_stack_and_a_firewall_that_is_not_rays() -> None:
    made = resources()
    profiles = {
        name: made[f"{name}Profile"]["Properties"]["InstanceProfileName"]
        for name in ("Head", "Worker")
    }
    cluster = read()
    for name, node in cluster["available_node_types"].items():
        profile = profiles["Head" if name == cluster["head_node_type"] else "Worker"]
        assert node["node_config"]["IamInstanceProfile"] == {"Name": profile}
        assert node["node_config"]["SecurityGroupIds"]
        assert node["node_config"]["MetadataOptions"]["HttpTokens"] == "required"


def chosen(gpus: int, spot: float) -> dict[str, int]:
    """The number of nodes of each type that Ray's autoscaler would start for so many workers that
    wait for room, each with a GPU.

    spot  the availability of spot nodes: 0 just after a failed start, 1 again ten minutes later
    """
    config = AutoscalingConfig(read(), skip_content_hash=True)
    worker = ResourceRequestUtil.make({"CPU": 1.0, "GPU": 1.0})
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count([worker] * gpus),
        recoverable_resource_availabilities={"gpu-spot": spot},
    )
    launches = ResourceDemandScheduler().schedule(request).to_launch
    return {launch.instance_type: launch.count for launch in launches}


def test_rays_autoscaler_takes_spot_and_without_it_the_machine_on_demand() -> None:
    """`--workers 4 --gpus-per-worker 1` asks for four GPUs. Without a worker there is no node."""
    assert chosen(0, spot=1.0) == {}
    assert chosen(4, spot=1.0) == {"gpu-spot": 4}
    assert chosen(4, spot=0.0) == {"gpu-on-demand": 4}


def start_one_of_each(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Does all of `ray up` that talks to AWS. Returns the requests to RunInstances by node type."""
    iam = boto3.client("iam", "eu-central-1")
    for node in config["available_node_types"].values():
        name = node["node_config"]["IamInstanceProfile"]["Name"]
        with suppress(iam.exceptions.EntityAlreadyExistsException):
            iam.create_instance_profile(InstanceProfileName=name)
    config = bootstrap_aws(config)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    asked: list[dict[str, Any]] = []
    events = provider.ec2_fail_fast.meta.client.meta.events
    events.register(
        "provide-client-params.ec2.RunInstances", lambda params, **_: asked.append(params)
    )
    for name, node in config["available_node_types"].items():
        tags = {TAG_RAY_NODE_NAME: name, TAG_RAY_USER_NODE_TYPE: name}
        provider.create_node(node["node_config"], tags, 1)
    return {
        _tag(request["TagSpecifications"][0], TAG_RAY_USER_NODE_TYPE): request for request in asked
    }


@dataclass(frozen=True)
class Up:
    """What `ray up` has asked of EC2, and what is there afterwards."""

    asked: dict[str, dict[str, Any]]
    """The requests to RunInstances by node type."""
    nodes: list[dict[str, Any]]
    new_groups: int
    """The number of security groups that Ray has made."""
    roles: list[Any]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Up:
    """Moto plays the API of EC2. The nodes themselves do not exist."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray writes a key there
        ec2, iam = boto3.client("ec2", "eu-central-1"), boto3.client("iam", "eu-central-1")
        config = validate(yaml.safe_load(_filled_in(ec2)))
        groups = len(ec2.describe_security_groups()["SecurityGroups"])
        asked = start_one_of_each(config)
        reservations = ec2.describe_instances()["Reservations"]
        return Up(
            asked,
            [node for reservation in reservations for node in reservation["Instances"]],
            len(ec2.describe_security_groups()["SecurityGroups"]) - groups,
            iam.list_roles()["Roles"],
        )


def test_ray_starts_nodes_at_an_api_as_the_file_says(up: Up) -> None:
    started = {_tag(node, TAG_RAY_USER_NODE_TYPE): node for node in up.nodes}
    assert set(started) == {"head", "gpu-spot", "gpu-on-demand"}
    spots = [name for name, node in started.items() if node.get("InstanceLifecycle") == "spot"]
    assert spots == ["gpu-spot"]
    # The head's role allows only nodes with this tag.
    assert {_tag(node, "ray-cluster-name") for node in up.nodes} == {"zilsweep"}
    assert up.new_groups == 0
    assert up.roles == []


def _another_type(asked: dict[str, Any]) -> None:
    asked["InstanceType"] = "p5.48xlarge"


def _no_tags(asked: dict[str, Any]) -> None:
    asked["TagSpecifications"] = []


def _another_cluster(asked: dict[str, Any]) -> None:
    for tag in asked["TagSpecifications"][0]["Tags"]:
        if tag["Key"] == "ray-cluster-name":
            tag["Value"] = "other"


def _another_firewall(asked: dict[str, Any]) -> None:
    asked["SecurityGroupIds"].append("sg-open")


def _somebodys_key(asked: dict[str, Any]) -> None:
    asked["KeyName"] = "somebody"


def _tagged_disks(asked: dict[str, Any]) -> None:
    asked["TagSpecifications"].append({"ResourceType": "volume", "Tags": []})


def test_the_heads_role_allows_what_ray_asks_for_and_little_else(up: Up) -> None:
    requests = copy.deepcopy(up.asked)
    role, vpc = autoscaler_statements(), PARAMETERS["Vpc"]
    for request in requests.values():
        assert len(request["SecurityGroupIds"]) == 1
        request["SecurityGroupIds"] = ["Nodes.GroupId"]  # the statements call it so
    assert not may_start(role, requests["head"], vpc)  # an operator starts the head
    for name in ("gpu-spot", "gpu-on-demand"):
        request = requests[name]
        assert not {"LaunchTemplate", "NetworkInterfaces", "Placement"} & set(request)
        assert may_start(role, request, vpc)
        assert not may_start(role, request, "vpc-other")
        for change in (
            _another_type,
            _no_tags,
            _another_cluster,
            _another_firewall,
            _somebodys_key,
            _tagged_disks,
        ):
            changed = copy.deepcopy(request)
            change(changed)
            assert not may_start(role, changed, vpc), change.__name__


def test_the_head_may_start_the_types_of_the_workers() -> None:
    cluster = read()
    workers = set(cluster["available_node_types"]) - {cluster["head_node_type"]}
    types = {
        cluster["available_node_types"][name]["node_config"]["InstanceType"] for name in workers
    }
    assert types == set(WORKER_TYPES)
    assert template()["Parameters"]["WorkerTypes"]["Default"] == ",".join(WORKER_TYPES)


def _filled_in(ec2: Any) -> str:
    """The text of the file, filled in with an image and a security group that the API knows."""
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="nodes", Description="nodes", VpcId=vpc)
    values = {
        "REGION": "eu-central-1",
        "ami-ID": ec2.describe_images()["Images"][0]["ImageId"],
        "sg-ID": group["GroupId"],
    }
    text = FILE.read_text()
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text


def _tag(node: dict[str, Any], key: str) -> str:
    return next(tag["Value"] for tag in node["Tags"] if tag["Key"] == key)

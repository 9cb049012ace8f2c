"""The cluster file of `ray up`: Ray's own validation, and that of the API that starts nodes."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
import yaml
from botocore.validate import ParamValidator
from ray.autoscaler._private.util import prepare_config, validate_config
from stack import resources

FILE = Path(__file__).parent.parent / "infra" / "aws" / "cluster.yaml"


def read() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def validate(config: dict[str, Any]) -> dict[str, Any]:
    """As `ray up` does before it talks to a cloud; returns the file with Ray's defaults."""
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

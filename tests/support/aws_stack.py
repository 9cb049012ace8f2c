"""Reads infra/aws/stack.yaml with its parameters filled in, and decides what its policies allow.

The rules are AWS's: a matching Deny decides, otherwise a matching Allow. Without either it is no.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

TEMPLATE = Path(__file__).resolve().parents[2] / "infra" / "aws" / "stack.yaml"
PARAMETERS = {
    "Bucket": "results",
    "Prefix": "zilsweep",
    "Vpc": "vpc-1",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "123456789012",
    "AWS::StackName": "zilsweep",
}
WORKER_TYPES = ["g6.xlarge"]  # a test compares the stack's default with it
EC2 = "arn:aws:ec2:eu-central-1:123456789012:"
Statement = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """A loader that resolves `!Ref` and `!Sub` of parameters. A reference to another object becomes
    the object's name, and another function becomes the function's name."""


def _resolve(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> str | list[str]:
    if not isinstance(node, yaml.ScalarNode):
        return tag
    text = str(loader.construct_scalar(node))
    if tag == "Sub":
        return re.sub(r"\$\{([^}]+)\}", lambda found: PARAMETERS.get(found[1], found[1]), text)
    if text == "WorkerTypes":
        return WORKER_TYPES
    return PARAMETERS.get(text, text)


_Loader.add_multi_constructor("!", _resolve)  # type: ignore[no-untyped-call]


def resources() -> dict[str, Any]:
    """The resources that the stack makes, by name."""
    return template()["Resources"]


def template() -> dict[str, Any]:
    return yaml.load(TEMPLATE.read_text(), _Loader)


def statements(name: str) -> list[Statement]:
    """The statements of the policy with this name."""
    return resources()[name]["Properties"]["PolicyDocument"]["Statement"]


def autoscaler_statements() -> list[Statement]:
    (policy,) = resources()["HeadRole"]["Properties"]["Policies"]
    return policy["PolicyDocument"]["Statement"]


def allows(policy: list[Statement], action: str, resource: str, context: Mapping[str, str]) -> bool:
    """True if the policy allows a request.

    context  the condition keys that the request carries
    """
    effects = {s["Effect"] for s in policy if _fits(s, action, resource, context)}
    return effects == {"Allow"}


def may_start(policy: list[Statement], asked: Mapping[str, Any], vpc: str) -> bool:
    """True if the policy allows the request `asked` of RunInstances, in a subnet of `vpc`. It must
    allow every resource that the request uses, and the tags that it sets.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
    """
    of = [f"arn:aws:ec2:eu-central-1::image/{asked['ImageId']}"]
    of += [f"{EC2}{new}/*" for new in ("instance", "volume", "network-interface")]
    of += [f"{EC2}security-group/{group}" for group in asked["SecurityGroupIds"]]
    of += [f"{EC2}subnet/{asked['SubnetId']}", f"{EC2}key-pair/{asked['KeyName']}"]
    tags = {
        f"aws:RequestTag/{tag['Key']}": tag["Value"]
        for new in asked["TagSpecifications"]
        for tag in new["Tags"]
    }
    keys = {
        "instance": {**tags, "ec2:InstanceType": asked["InstanceType"]},
        "subnet": {"ec2:Vpc": f"{EC2}vpc/{vpc}"},
    }
    tagging = {**tags, "ec2:CreateAction": "RunInstances"}
    return all(
        allows(policy, "ec2:RunInstances", thing, keys.get(_kind(thing), {})) for thing in of
    ) and all(
        allows(policy, "ec2:CreateTags", f"{EC2}{new['ResourceType']}/*", tagging)
        for new in asked["TagSpecifications"]
    )


def _kind(arn: str) -> str:
    """The kind of resource that an ARN names, such as "subnet"."""
    return arn.rsplit(":", 1)[1].split("/")[0]


def _fits(statement: Statement, action: str, resource: str, context: Mapping[str, str]) -> bool:
    return (
        any(_like(pattern, action) for pattern in _several(statement["Action"]))
        and any(_like(pattern, resource) for pattern in _several(statement["Resource"]))
        and all(
            _holds(operator, context.get(key), value)
            for operator, keys in statement.get("Condition", {}).items()
            for key, value in keys.items()
        )
    )


def _holds(operator: str, brought: str | None, wanted: str | list[str]) -> bool:
    match operator:
        case "Null":
            return (brought is None) == (wanted == "true")
        case "Bool" | "StringEquals" | "ArnEquals":
            return brought in _several(wanted)
    raise NotImplementedError(operator)


def _like(pattern: str, text: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), text) is not None


def _several(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value

"""infra/aws/stack.yaml with its parameters put in, and what its policies say to a request.

The rules are AWS's: a Deny that fits decides; else an Allow that fits; else the answer is no.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

TEMPLATE = Path(__file__).parent.parent / "infra" / "aws" / "stack.yaml"
PARAMETERS = {
    "Bucket": "results",
    "Prefix": "zilsweep",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "123456789012",
    "AWS::StackName": "zilsweep",
}
Statement = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """Knows `!Ref` and `!Sub`; of other objects it keeps the name, of other functions theirs."""


def _resolve(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        return tag
    text = str(loader.construct_scalar(node))
    if tag == "Sub":
        return re.sub(r"\$\{([^}]+)\}", lambda found: PARAMETERS[found[1]], text)
    return PARAMETERS.get(text, text)


_Loader.add_multi_constructor("!", _resolve)  # type: ignore[no-untyped-call]


def resources() -> dict[str, Any]:
    """By name: what the stack makes."""
    return yaml.load(TEMPLATE.read_text(), _Loader)["Resources"]


def statements(name: str) -> list[Statement]:
    """Of a policy."""
    return resources()[name]["Properties"]["PolicyDocument"]["Statement"]


def autoscaler_statements() -> list[Statement]:
    (policy,) = resources()["HeadRole"]["Properties"]["Policies"]
    return policy["PolicyDocument"]["Statement"]


def allows(policy: list[Statement], action: str, resource: str, context: Mapping[str, str]) -> bool:
    """Whether a request may be made; `context` has the condition keys that it brings."""
    effects = {s["Effect"] for s in policy if _fits(s, action, resource, context)}
    return effects == {"Allow"}


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


def _holds(operator: str, brought: str | None, wanted: str) -> bool:
    match operator:
        case "Null":
            return (brought is None) == (wanted == "true")
        case "Bool" | "StringEquals":
            return brought == wanted
    raise NotImplementedError(operator)


def _like(pattern: str, text: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), text) is not None


def _several(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value

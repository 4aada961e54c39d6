"""What no emulator judges of rights, read from the templates: who lacks a right that it needs.

The emulator judges the calls that functions make. What services do on behalf of a role, or as
principals of their own, it lets pass: keys of what is encrypted, a state machine's invocations,
polling of mappings, deliveries of EventBridge, SNS, CloudWatch and API Gateway, tasks of Fargate.
Here each of these needs is derived from what the templates connect, and looked for in the policies.

Conditions are read where they name the source (`aws:SourceArn`); any other is taken to be met.

It is longer than other modules: one function a kind of need, over one reading of the templates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from tests.infra.assembly import listed

Templates = Mapping[str, Mapping[str, Any]]

SEND = ("kms:Decrypt", "kms:GenerateDataKey")
ON_BEHALF = {
    "dynamodb:": ("kms:Decrypt",),
    "s3:GetObject": ("kms:Decrypt",),
    "s3:GetObjectVersion": ("kms:Decrypt",),
    "s3:PutObject": SEND,
    "sns:Publish": SEND,
    "sqs:ReceiveMessage": ("kms:Decrypt",),
    "sqs:SendMessage": SEND,
}
"""What a service does with a key on behalf of who calls it, by action, or by all of a service.

Source: the services' own pages on encryption with customer managed keys.
"""
TAKE = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
FOLLOW = ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator")
PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
LOG = ("logs:CreateLogStream", "logs:PutLogEvents")
KEYS = {
    "AWS::DynamoDB::Table": ("SSESpecification", "KMSMasterKeyId"),
    "AWS::S3::Bucket": (
        *("BucketEncryption", "ServerSideEncryptionConfiguration"),
        *(0, "ServerSideEncryptionByDefault", "KMSMasterKeyID"),
    ),
    "AWS::SNS::Topic": ("KmsMasterKeyId",),
    "AWS::SQS::Queue": ("KmsMasterKeyId",),
}
"""Where a resource names the key that it is encrypted with."""


@dataclass(frozen=True)
class Thing:
    """A resource of a template, with its references resolved.

    Attributes:
        id: What `Ref` of it is resolved to, without the brackets.
        type: CloudFormation's name of its type.
        name: Its construct path, for people.
        properties: What the template says of it.
    """

    id: str
    type: str
    name: str
    properties: Mapping[str, Any]

    @property
    def ref(self) -> str:
        return f"<{self.id}>"

    @cached_property
    def arns(self) -> list[str]:
        """How policies spell its ARN."""
        found = [f"<{self.id}.Arn>"]
        if self.type in ("AWS::SNS::Topic", "AWS::StepFunctions::StateMachine"):
            found.append(self.ref)
        if self.type == "AWS::DynamoDB::Table":
            found.append(f"<{self.id}.StreamArn>")
        if name := self.properties.get("QueueName"):
            account = "arn:<AWS::Partition>:sqs:<AWS::Region>:<AWS::AccountId>"
            found.append(f"{account}:{name}")
        return found

    @property
    def key(self) -> str | None:
        """The ARN of the key that it is encrypted with."""
        found: Any = self.properties
        for step in KEYS.get(self.type, ("",)):
            found = found[step] if isinstance(step, int) else found.get(step, {})
            if not found:
                return None
        return str(found)


@dataclass(frozen=True)
class Statement:
    """A statement that allows something.

    Attributes:
        actions: Actions, by wildcard or not.
        resources: ARNs, by wildcard or not.
        principals: Services and ARNs, where the policy belongs to a resource.
        sources: What `aws:SourceArn` may be; anything where it is empty.
    """

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    principals: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def allows(self, action: str, *arns: str, principal: str = "", source: str = "") -> bool:
        return (
            any(matches(one, action) for one in self.actions)
            and any(matches(one, arn) for one in self.resources for arn in arns)
            and (not principal or principal in self.principals)
            and (not self.sources or any(matches(one, source) for one in self.sources))
        )


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\*", ".*"), re.DOTALL)


def matches(pattern: str, text: str) -> bool:
    """Whether a text is what a policy names, by wildcard or not."""
    return pattern == text or ("*" in pattern and _pattern(pattern).fullmatch(text) is not None)


def findings(templates: Templates) -> list[str]:
    """What is wrong: a line each, that says who cannot do what."""
    return sorted(set(Rights(templates).findings()))


class Rights:
    """The rights of an app, and what it needs of them.

    Args:
        templates: The app's templates, by the names of their stacks.
    """

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._things = {
            thing.ref: thing
            for stack, template in templates.items()
            for logical, body in template["Resources"].items()
            for thing in [self._thing(stack, logical, body)]
        }

    def findings(self) -> Iterator[str]:
        yield from self._keys_of_roles()
        yield from self._machines()
        yield from self._mappings()
        yield from self._rules()
        yield from self._subscriptions()
        yield from self._alarms()
        yield from self._notifications()
        yield from self._gateways()
        yield from self._tasks()
        yield from self._trust()

    # What is there.

    def _thing(self, stack: str, logical: str, body: Mapping[str, Any]) -> Thing:
        path = str(body.get("Metadata", {}).get("aws:cdk:path", f"{stack}/{logical}"))
        return Thing(
            id=f"{stack}.{logical}",
            type=body["Type"],
            name=path.removesuffix("/Resource"),
            properties=self._resolved(stack, body.get("Properties", {})),
        )

    def _resolved(self, stack: str, value: Any) -> Any:
        """A value with its references spelt `<stack.resource.attribute>`, across stacks too."""
        if isinstance(value, list):
            return [self._resolved(stack, one) for one in value]
        if not isinstance(value, Mapping):
            return value
        if len(value) == 1:
            ((how, what),) = value.items()
            if how == "Ref":
                return f"<{what}>" if what.startswith("AWS::") else f"<{stack}.{what}>"
            if how == "Fn::GetAtt":
                return f"<{stack}.{what[0]}.{what[1]}>"
            if how == "Fn::Join":
                return what[0].join(str(one) for one in self._resolved(stack, what[1]))
            if how == "Fn::Sub" and isinstance(what, str):
                return re.sub(r"\$\{(AWS::\w+)\}", r"<\1>", what)
            if how == "Fn::ImportValue":
                return self._exported[what]
        return {key: self._resolved(stack, one) for key, one in value.items()}

    @cached_property
    def _exported(self) -> dict[str, Any]:
        return {
            output["Export"]["Name"]: self._resolved(stack, output["Value"])
            for stack, template in self._templates.items()
            for output in template.get("Outputs", {}).values()
            if "Export" in output
        }

    def _every(self, kind: str) -> list[Thing]:
        return [thing for thing in self._things.values() if thing.type == kind]

    def _at(self, arn: str) -> Thing | None:
        """The resource that an ARN, or the name of a function, is of."""
        return self._by_arn.get(arn)

    @cached_property
    def _by_arn(self) -> dict[str, Thing]:
        return {arn: one for one in self._things.values() for arn in (one.ref, *one.arns)}

    def _called(self, arn: str) -> str:
        thing = self._at(arn)
        return thing.name if thing else arn

    # What is allowed.

    @cached_property
    def _of_roles(self) -> dict[str, list[Statement]]:
        """What each role is allowed, by `Ref` of the role."""
        found: dict[str, list[Statement]] = {one.ref: [] for one in self._every("AWS::IAM::Role")}
        for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
            for policy in self._every(kind):
                for role in policy.properties.get("Roles", []):
                    found[role] += _allowing(policy.properties["PolicyDocument"])
        return found

    def _lacks(self, role: str, actions: Iterable[str], *arns: str) -> list[str]:
        """Which of some actions on a resource a role is not allowed."""
        statements = self._of_roles[_role(role)]
        return [one for one in actions if not any(s.allows(one, *arns) for s in statements)]

    def _key_lacks(
        self, key: str, actions: Iterable[str], *, role: str = "", service: str = ""
    ) -> list[str]:
        """Which actions on a key a role, or a service, is not allowed."""
        thing = self._at(key)
        if thing is None:
            return [f"{one}, of a key that is not ours" for one in actions]
        statements = _allowing(thing.properties["KeyPolicy"])
        if service:
            return [
                one
                for one in actions
                if not any(s.allows(one, key, principal=service) for s in statements)
            ]
        delegates = any(
            principal.endswith(":root") and statement.allows("kms:Decrypt", key)
            for statement in statements
            for principal in statement.principals
        )
        return self._lacks(role, actions, key) if delegates else list(actions)

    @cached_property
    def _of_resources(self) -> dict[str, list[Statement]]:
        """What policies of queues and topics allow, by `Ref` of these."""
        found: dict[str, list[Statement]] = {}
        for kind, of in (("AWS::SQS::QueuePolicy", "Queues"), ("AWS::SNS::TopicPolicy", "Topics")):
            for policy in self._every(kind):
                for one in policy.properties[of]:
                    statements = _allowing(policy.properties["PolicyDocument"])
                    found.setdefault(one, []).extend(statements)
        return found

    def _delivers(self, service: str, what: str, to: str, source: str) -> Iterator[str]:
        """A service to a function, a queue or a topic."""
        target = self._at(to)
        if target is None:
            yield f"{what}: {to} is nothing that can be judged"
        elif target.type == "AWS::Lambda::Function":
            if not self._may_invoke(service, target, source):
                yield f"{what}: {service} may not invoke {target.name}"
        elif target.type in ("AWS::SQS::Queue", "AWS::SNS::Topic"):
            is_queue = target.type == "AWS::SQS::Queue"
            action = "sqs:SendMessage" if is_queue else "sns:Publish"
            # A topic without a policy has the default one, by which services of the account may.
            if (is_queue or target.ref in self._of_resources) and not any(
                one.allows(action, *target.arns, principal=service, source=source)
                for one in self._of_resources.get(target.ref, ())
            ):
                yield f"{what}: {service} lacks {action} on {target.name}"
            if target.key:
                for one in self._key_lacks(target.key, SEND, service=service):
                    yield f"{what}: {service} lacks {one} on {self._called(target.key)}"
        else:
            yield f"{what}: a {target.type} is nothing that can be judged"

    def _may_invoke(self, service: str, function: Thing, source: str) -> bool:
        return any(
            one.properties["FunctionName"] in (function.ref, *function.arns)
            and one.properties["Principal"] == service
            and one.properties["Action"] == "lambda:InvokeFunction"
            and _names(one.properties.get("SourceArn", source), source)
            for one in self._every("AWS::Lambda::Permission")
        )

    # What is needed.

    def _keys_of_roles(self) -> Iterator[str]:
        """A role that touches what is encrypted needs the key, for it is used on its behalf."""
        encrypted = [(one, one.key) for one in self._things.values() if one.key]
        for role, statements in self._of_roles.items():
            for thing, key in encrypted:
                actions = {
                    action
                    for statement in statements
                    for action in statement.actions
                    if any(_touches(one, thing) for one in statement.resources)
                }
                wanted = {kms for one in actions for kms in _on_behalf(one)}
                for one in self._key_lacks(key, wanted, role=role):
                    yield f"{self._called(role)}: lacks {one} on the key of {thing.name}"

    def _machines(self) -> Iterator[str]:
        """A state machine's role invokes what its definition names, and nothing else."""
        for machine in self._every("AWS::StepFunctions::StateMachine"):
            substitutions = machine.properties.get("DefinitionSubstitutions", {})
            named = set()
            for task in _tasks(json.loads(machine.properties["DefinitionString"])):
                name = re.fullmatch(r"\$\{(\w+)\}", task["Resource"])
                resource = substitutions[name[1]] if name else task["Resource"]
                function = self._at(resource)
                if function is None or function.type != "AWS::Lambda::Function":
                    yield f"{machine.name}: a task of {resource} is nothing that can be judged"
                else:
                    named.add(f"<{function.id}.Arn>")
            invoke = "lambda:InvokeFunction"
            allowed = {
                resource
                for statement in self._of_roles[_role(machine.properties["RoleArn"])]
                if any(matches(one, invoke) for one in statement.actions)
                for resource in statement.resources
            }
            for one in named - allowed:
                yield f"{machine.name}: lacks {invoke} on {self._called(one)}"
            for one in allowed - named:
                yield f"{machine.name}: has {invoke} on {self._called(one)}, which it never names"

    def _mappings(self) -> Iterator[str]:
        """A function reads what is mapped to it, and sends on what it fails at, by its role."""
        for mapping in self._every("AWS::Lambda::EventSourceMapping"):
            function = self._things[mapping.properties["FunctionName"]]
            role, source = function.properties["Role"], mapping.properties["EventSourceArn"]
            for one in self._lacks(role, TAKE if source.endswith(".Arn>") else FOLLOW, source):
                yield f"{function.name}: lacks {one} on {self._called(source)}"
            if source.endswith(".StreamArn>"):
                for one in self._lacks(role, ["dynamodb:ListStreams"], source, "*"):
                    yield f"{function.name}: lacks {one} for {self._called(source)}"
            yield from self._failures(function, mapping)
        for config in self._every("AWS::Lambda::EventInvokeConfig"):
            yield from self._failures(self._things[config.properties["FunctionName"]], config)

    def _failures(self, function: Thing, config: Thing) -> Iterator[str]:
        for to in config.properties.get("DestinationConfig", {}).values():
            queue = to["Destination"]
            for one in self._lacks(function.properties["Role"], ["sqs:SendMessage"], queue):
                yield f"{function.name}: lacks {one} on {self._called(queue)}"

    def _rules(self) -> Iterator[str]:
        for rule in self._every("AWS::Events::Rule"):
            for target in rule.properties["Targets"]:
                lost = target.get("DeadLetterConfig", {}).get("Arn")
                for to in filter(None, (target["Arn"], lost)):
                    yield from self._delivers(
                        "events.amazonaws.com", rule.name, to, f"<{rule.id}.Arn>"
                    )

    def _subscriptions(self) -> Iterator[str]:
        for one in self._every("AWS::SNS::Subscription"):
            lost = one.properties.get("RedrivePolicy", {}).get("deadLetterTargetArn")
            for to in filter(None, (one.properties["Endpoint"], lost)):
                topic = one.properties["TopicArn"]
                yield from self._delivers("sns.amazonaws.com", one.name, to, topic)

    def _alarms(self) -> Iterator[str]:
        """An alarm needs no right to scale; whatever else it does needs one."""
        for alarm in self._every("AWS::CloudWatch::Alarm"):
            for to in alarm.properties.get("AlarmActions", ()):
                target = self._at(to)
                if not target or target.type != "AWS::ApplicationAutoScaling::ScalingPolicy":
                    yield from self._delivers(
                        "cloudwatch.amazonaws.com", alarm.name, to, f"<{alarm.id}.Arn>"
                    )

    def _notifications(self) -> Iterator[str]:
        """S3 needs no right to tell EventBridge; whatever else it tells would need one."""
        for bucket in self._every("AWS::S3::Bucket"):
            told = bucket.properties.get("NotificationConfiguration", {})
            for how in set(told) - {"EventBridgeConfiguration"}:
                for one in told[how]:
                    to = one.get("Queue") or one.get("Topic") or one.get("Function")
                    yield from self._delivers(
                        "s3.amazonaws.com", bucket.name, to, f"<{bucket.id}.Arn>"
                    )

    def _gateways(self) -> Iterator[str]:
        """API Gateway calls a function by an integration, and by an authorizer."""
        for kind in ("Integration", "Authorizer"):
            for one in self._every(f"AWS::ApiGatewayV2::{kind}"):
                uri = one.properties.get(f"{kind}Uri", "")
                for arn in re.findall(r"<[^<>]+\.Arn>", uri):
                    yield from self._delivers(
                        "apigateway.amazonaws.com", one.name, arn, one.properties["ApiId"]
                    )

    def _tasks(self) -> Iterator[str]:
        """A task of Fargate takes from the queue that it is told; ECS pulls its image and logs."""
        for task in self._every("AWS::ECS::TaskDefinition"):
            by, role = task.properties["ExecutionRoleArn"], task.properties["TaskRoleArn"]
            lacking = self._lacks(by, ["ecr:GetAuthorizationToken"], "*")
            for container in task.properties["ContainerDefinitions"]:
                repository = container["Image"].partition("/")[2].rpartition(":")[0]
                arn = "arn:<AWS::Partition>:ecr:<AWS::Region>:<AWS::AccountId>:repository/"
                lacking += self._lacks(by, PULL, arn + repository)
                logs = container["LogConfiguration"]["Options"]["awslogs-group"]
                lacking += self._lacks(by, LOG, f"{logs[:-1]}.Arn>")
                for queue in (self._things.get(one) for one in container["Command"]):
                    if queue:
                        lacking += self._lacks(role, TAKE, *queue.arns)
            for one in lacking:
                yield f"{task.name}: lacks {one}"

    def _trust(self) -> Iterator[str]:
        """A role is there for the service that takes it on."""
        for kind, named, service in (
            ("AWS::Lambda::Function", ("Role",), "lambda"),
            ("AWS::StepFunctions::StateMachine", ("RoleArn",), "states"),
            ("AWS::ECS::TaskDefinition", ("ExecutionRoleArn", "TaskRoleArn"), "ecs-tasks"),
        ):
            for thing in self._every(kind):
                for role in (self._things[_role(thing.properties[one])] for one in named):
                    trust = _allowing(role.properties["AssumeRolePolicyDocument"])
                    who = f"{service}.amazonaws.com"
                    if not any(s.allows("sts:AssumeRole", "*", principal=who) for s in trust):
                        yield f"{thing.name}: {who} may not assume {role.name}"


def _role(arn: str) -> str:
    return f"{arn.removesuffix('.Arn>')}>" if arn.endswith(".Arn>") else arn


def _allowing(policy: Mapping[str, Any]) -> list[Statement]:
    """What a policy allows."""
    return [
        Statement(
            actions=tuple(listed(one["Action"])),
            resources=tuple(listed(one.get("Resource", "*"))),
            principals=tuple(_principals(one.get("Principal", {}))),
            sources=tuple(_sources(one.get("Condition", {}))),
        )
        for one in policy["Statement"]
        if one["Effect"] == "Allow"
    ]


def _principals(principal: str | Mapping[str, Any]) -> Iterator[str]:
    if isinstance(principal, str):
        yield principal
    else:
        for some in principal.values():
            yield from listed(some)


def _sources(condition: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for keys in condition.values():
        for key, values in keys.items():
            if key.lower() == "aws:sourcearn":
                yield from listed(values)


def _names(allowed: str, source: str) -> bool:
    """Whether a permission's source is the one, or one of those of an API."""
    return matches(allowed, source) or source in allowed


def _touches(resource: str, thing: Thing) -> bool:
    """Whether a resource of a statement is a thing, or something in it: an object, an index."""
    return resource != "*" and any(
        resource.startswith(f"{arn}/") or matches(resource, arn) for arn in thing.arns
    )


def _on_behalf(action: str) -> tuple[str, ...]:
    return ON_BEHALF.get(action) or ON_BEHALF.get(action.partition(":")[0] + ":", ())


def _tasks(states: Any) -> Iterator[Mapping[str, Any]]:
    """The tasks of a definition, however deep."""
    if isinstance(states, Mapping):
        if states.get("Type") == "Task":
            yield states
        for one in states.values():
            yield from _tasks(one)
    elif isinstance(states, list):
        for one in states:
            yield from _tasks(one)

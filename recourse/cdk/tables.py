"""Tables: one key, a stream for the relay, and what is stored is encrypted and kept on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_cdk.aws_dynamodb import (
    Attribute,
    AttributeType,
    BillingMode,
    PointInTimeRecoverySpecification,
    ProjectionType,
    StreamViewType,
    Table,
    TableEncryption,
)
from aws_cdk.aws_kms import IKey
from constructs import Construct

from recourse.cdk.indexes import FORMER_INDEXES, INDEX_STEPS
from recourse.cdk.stage import Stage
from recourse.ledger.listing import INDEXES


class KeptTable(Table):
    """A table; rows that say when they expire go, every other row stays.

    Args:
        scope: Where it belongs.
        name: Its construct id.
        stage: The deployment.
        key: What it is encrypted with.
        stream: What its stream shows; None where nobody listens.
        order: The number by which the rows of one key are ordered; None where a key has one row,
            or where they have names.
        names: The text that tells the rows of one key apart.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        key: IKey,
        stream: StreamViewType | None = None,
        order: str | None = None,
        names: str | None = None,
    ) -> None:
        sort_key = Attribute(name=order, type=AttributeType.NUMBER) if order else None
        if names:
            sort_key = Attribute(name=names, type=AttributeType.STRING)
        super().__init__(
            scope,
            name,
            partition_key=Attribute(name="pk", type=AttributeType.STRING),
            sort_key=sort_key,
            billing_mode=BillingMode.PAY_PER_REQUEST,
            stream=stream,
            time_to_live_attribute="expires_at",
            encryption=TableEncryption.CUSTOMER_MANAGED,
            encryption_key=key,
            point_in_time_recovery_specification=PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=stage.keeps_data,
            removal_policy=stage.removal_of_protected,
        )


class OutboxTable(KeptTable):
    """A table whose outbox rows are relayed, and expire."""

    def __init__(self, scope: Construct, name: str, *, stage: Stage, key: IKey) -> None:
        super().__init__(scope, name, stage=stage, key=key, stream=StreamViewType.NEW_IMAGE)


class ListedTable(KeptTable):
    """A table with indexes that lists are read from, in the order in which rows `started`.

    Args:
        scope: Where it belongs.
        name: Its construct id.
        stage: The deployment.
        key: What it is encrypted with.
        indexes: The attribute that each index is keyed by.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: Stage,
        key: IKey,
        indexes: Mapping[str, str],
    ) -> None:
        super().__init__(scope, name, stage=stage, key=key)
        for index, attribute in indexes.items():
            self.add_global_secondary_index(
                index_name=index,
                partition_key=Attribute(name=attribute, type=AttributeType.STRING),
                sort_key=Attribute(name="started", type=AttributeType.STRING),
            )


class LedgerTable(OutboxTable):
    """The ledger's table, with the indexes that lists and the sweeper read.

    A table that has the former indexes gets these, and then loses those, in as many deploys as
    `stage.index_step` counts.
    """

    def __init__(self, scope: Construct, name: str, *, stage: Stage, key: IKey) -> None:
        super().__init__(scope, name, stage=stage, key=key)
        step = INDEX_STEPS if stage.index_step is None else stage.index_step
        dropped = max(0, step - len(INDEXES))
        for index, attribute in list(FORMER_INDEXES.items())[dropped:]:
            self._index(index, attribute)
        for one in INDEXES[:step]:
            self._index(one.name, one.attribute, one.includes)

    def _index(self, name: str, attribute: str, includes: Sequence[str] = ()) -> None:
        self.add_global_secondary_index(
            index_name=name,
            partition_key=Attribute(name=attribute, type=AttributeType.STRING),
            sort_key=Attribute(name="started", type=AttributeType.STRING),
            projection_type=ProjectionType.INCLUDE if includes else ProjectionType.ALL,
            non_key_attributes=list(includes) or None,
        )

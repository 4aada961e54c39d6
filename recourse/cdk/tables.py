"""Tables: encrypted, with backups, and with a stream where changes are relayed."""

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
    """A table; rows with `expires_at` are deleted then, all others are kept.

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        key: The key that encrypts it.
        stream: The view type of its stream; None for no stream.
        order: The name of a numeric sort key, if it has one.
        names: The name of a text sort key, if it has one.
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
    """A table with indexes for lists, sorted by the attribute `started`.

    Args:
        scope: The construct that contains it.
        name: Its construct id.
        stage: The deployment.
        key: The key that encrypts it.
        indexes: The partition key of each index.
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

    A table with the former indexes first gets the current ones and then loses the former ones, one
    with each deploy (`stage.index_step`).
    """

    def __init__(self, scope: Construct, name: str, *, stage: Stage, key: IKey) -> None:
        super().__init__(scope, name, stage=stage, key=key)
        step = INDEX_STEPS if stage.index_step is None else stage.index_step
        dropped = max(0, step - len(INDEXES))
        for index, attribute in list(FORMER_INDEXES.items())[dropped:]:
            self._index(index, attribute)
        for one in INDEXES[:step]:
            self._index(one.name, one.attribute, one.includes, one.sort)

    def _index(
        self, name: str, attribute: str, includes: Sequence[str] = (), sort: str = "started"
    ) -> None:
        self.add_global_secondary_index(
            index_name=name,
            partition_key=Attribute(name=attribute, type=AttributeType.STRING),
            sort_key=Attribute(name=sort, type=AttributeType.STRING),
            projection_type=ProjectionType.INCLUDE if includes else ProjectionType.ALL,
            non_key_attributes=list(includes) or None,
        )

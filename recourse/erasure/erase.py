"""Erases one person's data: the rows, events and objects of a subject, in an order that may stop.

::

    erasure = Erasure(dynamodb, s3, places, SAGAS.values())
    erasure.run("asha")                        # what would be done; changes nothing
    erasure.run("asha", dry_run=False)         # does it

The person's sagas must be at rest, and so must those of others in which they are asked, or have
decided, as somebody who decides. Their rows in the ledger are changed last of all: what was
stopped on the way finds them there and goes on, under the same pseudonym, which is kept in a row
of the ledger (`erasure#<digest of the subject>`) until the end, and nowhere afterwards. What is
done twice changes nothing more, and a row is written on the condition that it is as it was read.

A row of a service is the person's where its key or its `saga_id` names one of their sagas, or its
`owner` is the subject and it names no saga. Of others' rows only the subject goes, where it stands
for whom a question is put to, or who has decided. Tables are scanned, for nothing else finds all of
it: that is why no function has a right to this. It is longer than other modules, because what is
erased, and in which order, is to be read in one place.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from recourse import events
from recourse.declare.declaration import Step
from recourse.declare.shape import Shape
from recourse.declare.step import Item
from recourse.erasure.places import Places
from recourse.erasure.report import Change, NotAtRestError, Report
from recourse.erasure.scrub import Scrub, changed_fields, texts
from recourse.feed.feed import Feed
from recourse.imports.finish import result_key
from recourse.ledger.history import AT_REST
from recourse.ledger.record import ERASED, Record
from recourse.store.contention import ConditionFailedError
from recourse.store.expressions import ABSENT, PRESENT
from recourse.store.table import Table
from recourse.valet.keys import key_pk
from recourse.valet.names import incoming_key, owner_space, quarantine_key
from recourse.webhooks.webhooks import Webhooks

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_s3 import S3Client

_SAGA_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


class Erasure:
    """Erases one person's data.

    Args:
        dynamodb: A DynamoDB client.
        s3: An S3 client.
        places: Where the data are.
        shapes: The declarations, and other shapes that are still served.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        s3: S3Client,
        places: Places,
        shapes: Iterable[Shape[Step]],
    ) -> None:
        self._dynamodb = dynamodb
        self._s3 = s3
        self._places = places
        steps = [(shape.name, step) for shape in shapes for step in shape.all]
        self._services = {(name, step.name): step.service for name, step in steps}
        self._keeps = {name: {**kept} for name, kept in places.keeps.items()}
        self._storing: dict[str, str] = {}
        for _, step in steps:
            self._keeps.setdefault(step.service, {}).update(step.action.keeps)
            if step.action.documents:
                why = self._storing.get(step.service) or step.action.keeps_documents
                self._storing[step.service] = why
        self._ledger = self._table(places.ledger)

    def run(
        self,
        subject: str,
        *,
        dry_run: bool = True,
        progress: Callable[[Change, int], None] = lambda change, number: None,
    ) -> Report:
        """Erase a person's data, or say what would be erased.

        Args:
            subject: The person: the subject of their tokens.
            dry_run: Change nothing.
            progress: Called before each change, with its number.

        Returns:
            What was done.

        Raises:
            NotAtRestError: A saga of theirs has not ended; in a dry run the report says so.
        """
        records, others = self._records(subject)
        at_work: dict[str, str] = {
            one.saga_id: one.status
            for one in (*records, *(one for one in others if _is_asked(one, subject)))
            if one.status not in AT_REST
        }
        report = Report(dry_run, sagas=len(records), not_at_rest=at_work)
        if at_work and not dry_run:
            raise NotAtRestError(report.not_at_rest)
        pseudonym = f"{ERASED}-{secrets.token_hex(16)}"
        if not dry_run:
            report.pseudonym = pseudonym = self._begin(subject, pseudonym)
        scrub = Scrub(
            subject,
            pseudonym,
            self._keeps,
            self._services,
            {subject, *(text for one in records for text in texts(one.request) if text)},
        )
        report.keeps = {name: {**kept} for name, kept in sorted(self._keeps.items()) if kept}
        for number, change in enumerate(self._changes(scrub, records, others, report), 1):
            progress(change, number)
            report.counts[change[:4]] += 1
            if change.apply and not dry_run:
                change.apply()
        if not dry_run:
            self._ledger.delete(_erasure_pk(subject))
        return report

    def _begin(self, subject: str, pseudonym: str) -> str:
        """The pseudonym of this erasure: that of the one before, if that was stopped."""
        row = {"pk": _erasure_pk(subject), "pseudonym": pseudonym, "began": events.now()}
        try:
            self._ledger.put(row, when=ABSENT)
            return pseudonym
        except ConditionFailedError as begun:
            found = begun.rows[0]
            assert found is not None, "a put without a row succeeds"
            return str(found["pseudonym"])

    def _records(self, subject: str) -> tuple[list[Record], list[Record]]:
        """The person's sagas, and those of others that they have decided about, or are to."""
        nobody = Scrub(subject, "", {}, {})
        mine, others = [], []
        for row in self._ledger.scan({"saga": PRESENT}):
            record = Record.from_row(row)
            if record.owner == subject:
                mine.append(record)
            elif nobody.decisions(record) != record:
                others.append(record)
        return mine, others

    def _changes(
        self, scrub: Scrub, records: Sequence[Record], others: Sequence[Record], report: Report
    ) -> Iterator[Change]:
        """All that is to be done; the ledger's rows come last, for they are where it begins."""
        ids = {one.saga_id for one in records}
        places = self._places
        for name, table in {**places.services, **places.consumers}.items():
            yield from self._rows(name, self._table(table), scrub, ids, report)
        if places.documents:
            yield from self._documents(ids)
        feed = Feed(self._dynamodb, places.feed)
        yield from (Change("feed", "event", "deleted") for _ in feed.positions(scrub.subject))
        if feed.head(scrub.subject):
            yield Change("feed", "head", "deleted", apply=partial(feed.erase, scrub.subject))
        yield from self._told(scrub, records, others, feed)
        if places.webhooks:
            yield from self._webhooks(scrub.subject)
        if places.connections:
            yield from self._connections(scrub.subject)
        if places.imports:
            yield from self._imports(scrub.subject)
        if places.valet:
            yield from self._valet(scrub)
        yield from self._rows("ledger", self._ledger, scrub, ids, report)
        for record in others:
            apply = partial(self._rewrite, record.saga_id, scrub.decisions)
            yield Change("ledger", "decision on another's saga", ERASED, apply=apply)
        at = events.now()

        def erased(record: Record) -> Record:
            return record if record.is_erased else scrub.record(record, at)

        for record in records:
            apply = partial(self._rewrite, record.saga_id, erased)
            yield Change("ledger", "saga", ERASED, apply=apply)

    def _told(
        self, scrub: Scrub, records: Sequence[Record], others: Sequence[Record], feed: Feed
    ) -> Iterator[Change]:
        """What others have in their feeds: of these sagas, or of what the person was asked."""
        ids = {one.saga_id for one in records}
        about: dict[str, set[str]] = {}
        for record in (*records, *others):
            readers = {str(e.question["to"]) for e in record.entered if "to" in e.question}
            for reader in {record.owner, *readers} - {scrub.subject}:
                about.setdefault(reader, set()).add(record.saga_id)
        for reader, sagas in sorted(about.items()):
            for entry in feed.about(reader, sagas):
                of_theirs = entry.event.saga_id in ids
                scrubbed = scrub.event if of_theirs else scrub.event_of_another
                after = scrubbed(entry.event)
                if after != entry.event:
                    apply = partial(feed.rewrite, reader, entry.position, after)
                    what = "event of somebody who was asked" if of_theirs else "decision"
                    yield Change("feed", what, ERASED, apply=apply)

    def _rewrite(self, saga_id: str, change: Callable[[Record], Record]) -> None:
        """Change a saga's row in the ledger, from what it is now."""

        def attempt() -> None:
            row = self._ledger.get(saga_id)
            if row is None:
                return
            record = Record.from_row(row)
            changed = change(record)
            if changed != record:
                changed = replace(changed, version=record.version + 1)
                self._ledger.put(changed.to_row(), when={"version": record.version})

        self._ledger.retry(attempt, what=f"saga {saga_id}")

    # Rows of services, consumers and outboxes.

    def _rows(
        self, place: str, table: Table, scrub: Scrub, ids: Iterable[str], report: Report
    ) -> Iterator[Change]:
        known = set(ids)
        for row in table.scan():
            if "saga" in row and place == "ledger":
                continue
            change: Callable[[Item], Item] = scrub.row_of_another
            if _is_of(row, scrub.subject, known):
                change = partial(scrub.row, place)
            fields = changed_fields(row, change(row))
            if not fields:
                continue
            what = str(row["pk"]).partition("#")[0]
            report.fields.setdefault((place, what), set()).update(fields)
            apply = partial(self._scrub_row, table, change, row)
            yield Change(place, what, ERASED, apply=apply)

    def _scrub_row(self, table: Table, change: Callable[[Item], Item], row: Item) -> None:
        """Replace the text of a row, in the fields where there is any, from what they are now."""
        read: Item | None = row

        def attempt() -> None:
            nonlocal read
            now, read = read or table.get(row["pk"]), None
            if now is None:
                return
            after = change(now)
            if fields := changed_fields(now, after):
                table.update(
                    row["pk"],
                    set={(name,): after[name] for name in fields},
                    when={(name,): now[name] for name in fields},
                )

        table.retry(attempt, what=f"row {row['pk']}")

    # Documents and uploads.

    def _documents(self, ids: set[Any]) -> Iterator[Change]:
        for service, why in sorted(self._storing.items()):
            for key, version in self._versions(self._places.documents, f"{service}/"):
                if ids.isdisjoint(_SAGA_ID.findall(key)):
                    continue
                if why:
                    yield Change("documents", service, "kept", why)
                else:
                    yield self._deletion("documents", service, self._places.documents, key, version)

    def _versions(self, bucket: str, prefix: str) -> Iterator[tuple[str, str]]:
        """Every version of every object under a prefix, and every mark of a deletion."""
        pages = self._s3.get_paginator("list_object_versions")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix):
            for kind in ("Versions", "DeleteMarkers"):
                found: Any = page.get(kind, ())
                yield from ((one["Key"], one["VersionId"]) for one in found)

    def _deletion(self, place: str, what: str, bucket: str, key: str, version: str) -> Change:
        apply = partial(self._s3.delete_object, Bucket=bucket, Key=key, VersionId=version)
        return Change(place, what, "deleted", apply=apply)

    # Webhooks, connections, valet keys: the person's alone, so all of it goes.

    def _webhooks(self, subject: str) -> Iterator[Change]:
        table = self._table(self._places.webhooks)
        webhooks = Webhooks(self._dynamodb, self._places.webhooks)
        for one in webhooks.registrations.of(subject):
            if one.status != "DELETED":  # nothing is delivered from here on
                stop = partial(webhooks.registrations.delete, one)
                yield Change("webhooks", "webhook", "deleted", apply=stop)
        own = {row["pk"] for row in table.scan({"owner": subject})}
        ids = {pk.partition("#")[2] for pk in own}
        for row in table.scan():
            kind, _, rest = row["pk"].partition("#")
            if kind in ("lane", "log", "replay") and rest.partition("#")[0] in ids:
                yield Change("webhooks", kind, "deleted", apply=partial(table.delete, row["pk"]))
        yield from self._gone("webhooks", table, [*sorted(own), f"owner#{subject}"])

    def _connections(self, subject: str) -> Iterator[Change]:
        table = self._table(self._places.connections, ("pk", "connection"))
        for row in table.scan():
            kind, _, rest = row["pk"].partition("#")
            whose = rest if kind == "owner" else rest.partition("#")[2]
            if whose == subject and kind in ("owner", "slots"):
                key = row["pk"], row["connection"]
                what = "connection" if kind == "owner" else "limit"
                yield Change("connections", what, "deleted", apply=partial(table.delete, key))

    def _valet(self, scrub: Scrub) -> Iterator[Change]:
        table, bucket = self._table(self._places.valet), self._places.uploads
        space = owner_space(scrub.subject)
        keys = list(table.scan({"owner": scrub.subject}))
        ids = {row["pk"].partition("#")[2] for row in keys}
        for row in keys:
            if "revoked_at" not in row:  # no upload becomes visible from here on
                apply = partial(table.update, row["pk"], set={"revoked_at": events.now()})
                yield Change("valet", "key", ERASED, apply=apply)
        for row in keys:
            if row.get("multipart") and row["state"] == "ISSUED":
                abort = partial(self._abort, bucket, row)
                yield Change("uploads", "parts", "deleted", apply=abort)
        prefixes = [f"objects/{space}/"]
        prefixes += [place(one) for one in sorted(ids) for place in (incoming_key, quarantine_key)]
        for prefix in prefixes:
            for key, version in self._versions(bucket, prefix):
                what = prefix.partition("/")[0]
                yield self._deletion("uploads", what, bucket, key, version)
        for row in table.scan():
            kind, _, rest = row["pk"].partition("#")
            whose, _, of = rest.partition("#")
            mine = (
                (kind in ("audit", "refused") and whose in ids)
                or (kind == "object" and whose == space)
                or (kind == "rate" and of.partition("#")[0] in {space, *ids})
            )
            if mine:
                yield Change("valet", kind, "deleted", apply=partial(table.delete, row["pk"]))
            elif row.get("caller") == scrub.subject:
                hidden = {"caller": scrub.pseudonym, "address": ERASED}
                apply = partial(table.update, row["pk"], set=hidden)
                yield Change("valet", f"{kind} of another's key", ERASED, apply=apply)
        yield from self._gone("valet", table, [key_pk(one) for one in sorted(ids)])

    def _imports(self, subject: str) -> Iterator[Change]:
        """The person's imports with their files; the rows of the imports last, which name them."""
        table, bucket = self._table(self._places.imports), self._places.uploads
        own = [row["pk"] for row in table.scan({"owner": subject})]
        ids = {pk.partition("#")[2] for pk in own}
        for one in sorted(ids):
            for prefix in (f"imports/{one}/", result_key(one)):
                for key, version in self._versions(bucket, prefix):
                    yield self._deletion("uploads", "file of an import", bucket, key, version)
        for row in table.scan():
            kind, _, rest = row["pk"].partition("#")
            if kind == "batch" and rest.partition("#")[0] in ids:
                yield Change("imports", kind, "deleted", apply=partial(table.delete, row["pk"]))
        yield from self._gone("imports", table, sorted(own))

    def _abort(self, bucket: str, key: Item) -> None:
        """Abort an upload in parts; nothing where it has ended already."""
        place = incoming_key(key["pk"].partition("#")[2])
        upload = key["multipart"]["upload_id"]
        try:
            self._s3.abort_multipart_upload(Bucket=bucket, Key=place, UploadId=upload)
        except self._s3.exceptions.NoSuchUpload:
            return

    def _gone(self, place: str, table: Table, keys: Sequence[str]) -> Iterator[Change]:
        for row in table.get_many(keys):
            if row is not None:
                kind = row["pk"].partition("#")[0]
                yield Change(place, kind, "deleted", apply=partial(table.delete, row["pk"]))

    def _table(self, name: str, key: str | tuple[str, str] = "pk") -> Table:
        return Table(self._dynamodb, name, key)


def _is_of(row: Mapping[str, Any], subject: str, ids: set[str]) -> bool:
    """Whether a row is of these sagas, or of the person and of no saga."""
    named = {*_SAGA_ID.findall(str(row["pk"]))}
    if isinstance(row.get("saga_id"), str):
        named.add(row["saga_id"])
    return bool(named & ids) or (not named and row.get("owner") == subject)


def _is_asked(record: Record, subject: str) -> bool:
    """Whether a question of a saga is put to somebody, or was decided by them."""
    said = (one for event in record.entered for one in (event.question, event.answer) if one)
    return any(subject in (one.get("to"), one.get("by")) for one in said)


def _erasure_pk(subject: str) -> str:
    """The key of the row of an erasure that is under way; it does not name the person."""
    return f"erasure#{hashlib.sha256(json.dumps(['erasure', subject]).encode()).hexdigest()}"

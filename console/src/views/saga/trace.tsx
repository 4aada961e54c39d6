/** A saga's trace as a tree, as `recourse trace` prints it: the spans of its steps and undos. */
import type { ComponentChildren } from "preact";
import type { Event, Saga, Step } from "../../api/client";
import { Status } from "../../parts/show";
import { facts, inWords, isClaim, kind, since } from "./words";

interface Branch {
  name: string;
  status: string;
  from: string | null;
  to: string | null;
  attempts: number;
  /** The span's id, as its events have it. */
  span: string | undefined;
  error: { type: string; message: string } | undefined;
  events: Event[];
}

export function Trace({ saga, events }: { saga: Saga; events: Event[] }) {
  const [, trace, called] = (saga.traceparent ?? "").split("-");
  const own = events.filter((event) => !facts(event).step);
  const root = own.find((event) => kind(event) !== "started");
  const branches = saga.steps.flatMap((step) => sidesOf(step, events)).sort((one, other) => (one.from ?? one.to ?? "9").localeCompare(other.from ?? other.to ?? "9"));
  return (
    <div class="trace">
      <p>
        Trace <code>{trace ?? "none: an earlier release started it"}</code>
        {called && (
          <>
            , begun in span <code>{called}</code>
          </>
        )}
      </p>
      <ul>
        <li>
          <Title of={{ name: saga.saga, status: saga.status, from: saga.started_at, to: saga.ended_at, attempts: 1, span: spanOf(root), error: undefined, events: [] }} begun={saga.started_at} />
          <ul>
            {own.map((event) => (
              <Told key={event.id} event={event} begun={saga.started_at} />
            ))}
            {branches.map((branch) => (
              <li key={branch.name}>
                <Title of={branch} begun={saga.started_at} />
                <ul>
                  {branch.events.map((event) => (
                    <Told key={event.id} event={event} begun={saga.started_at} />
                  ))}
                </ul>
              </li>
            ))}
          </ul>
        </li>
      </ul>
    </div>
  );
}

function Title({ of, begun }: { of: Branch; begun: string }) {
  const parts: ComponentChildren[] = [`at ${of.from ? since(begun, of.from) : "an unknown time"}`];
  if (of.from && of.to) parts.push(`took ${since(of.from, of.to).slice(1)}`);
  if (of.attempts > 1) parts.push(`${of.attempts} attempts`);
  if (of.span) parts.push(<>span <code>{of.span}</code></>);
  if (of.error) parts.push(`${inWords(of.error.type)}: ${of.error.message}`);
  return (
    <span>
      <strong>{of.name}</strong> <Status status={of.status} /> {parts.map((part, index) => [index ? ", " : "", part])}
    </span>
  );
}

function Told({ event, begun }: { event: Event; begun: string }) {
  const { run } = facts(event);
  return (
    <li class="hint">
      event {kind(event)} at {since(begun, event.time)}
      {run ? `, run ${run + 1}` : ""}
    </li>
  );
}

/** The action of a step and its undo, as far as anything is known of them. */
function sidesOf(step: Step, events: Event[]): Branch[] {
  const own = events.filter((event) => facts(event).step === step.name);
  return (["action", "undo"] as const).flatMap((side) => {
    const theirs = own.filter((event) => (["undone", "undo_failed"].includes(kind(event)) ? "undo" : "action") === side);
    const goesOn = side === "action" ? step.status === "RUNNING" || step.begins_at !== undefined : step.status === "UNDOING";
    const last = theirs.at(-1);
    if (!last && !goesOn) return [];
    const to = goesOn ? null : (last?.time ?? null);
    const entered = theirs.findLast((event) => facts(event).entered_at);
    const from = last && isClaim(last) ? last.time : (entered && facts(entered).entered_at) ?? (side === "action" ? step.started_at : null);
    return [{
      name: side === "undo" ? `undo of ${step.name}` : step.name,
      status: last && !goesOn ? (facts(last).outcome === "skipped" ? "SKIPPED" : kind(last).toUpperCase()) : step.status,
      from: from && to && from > to ? to : from,
      to,
      attempts: Math.max(side === "action" ? step.attempts : step.undo_attempts, ...theirs.map((event) => facts(event).attempts ?? 0)),
      span: spanOf(last),
      error: last && facts(last).error,
      events: theirs,
    }];
  });
}

const spanOf = (event: Event | undefined): string | undefined => event?.traceparent?.split("-")[2];

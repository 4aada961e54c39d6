/** When each step acted, waited and was undone, by its saga's events. */
import type { Event, Saga, Step } from "../../api/client";
import { facts, inWords, isClaim, kind, type Declaration } from "./words";

export type Sort = "action" | "failed" | "undo" | "undo-failed" | "decision" | "delay" | "operator";

/** A stretch of time of a step. */
export interface Span {
  sort: Sort;
  from: number;
  /** When it was over; null while it goes on. */
  to: number | null;
  attempts: number;
  /** The run that it was in; 0 is the first. */
  run: number;
  /** What came of it, in words. */
  text: string;
}

export interface Row {
  step: Step;
  spans: Span[];
  /** When something was said of it, and what. */
  marks: { at: number; text: string; kind: string }[];
  /** The steps that run beside it. */
  beside: string[];
}

/** What each sort is called. */
export const SORTS: Record<Sort, string> = {
  action: "acts",
  failed: "failed",
  undo: "undo",
  "undo-failed": "undo failed",
  decision: "waits for a decision",
  delay: "waits for its time",
  operator: "waits for an operator",
};
export const isWait = (sort: Sort): boolean => sort === "decision" || sort === "delay" || sort === "operator";

/** A row a step, in the order of the declaration. */
export function rowsOf(saga: Saga, events: Event[], declaration: Declaration | undefined): Row[] {
  const stages = declaration?.stages.map((stage) => stage.map(({ name }) => name)) ?? saga.steps.map(({ name }) => [name]);
  const known = new Map(saga.steps.map((step) => [step.name, step]));
  // When each later run began, as far as its first event says.
  const runs = new Map<number, number>();
  for (const event of events) {
    const { run = 0, entered_at } = facts(event);
    const at = Math.min(Date.parse(event.time), Date.parse(entered_at ?? event.time));
    if (run > 0) runs.set(run, Math.min(at, runs.get(run) ?? at));
  }
  return stages.flatMap((names, rank) =>
    names.flatMap((name) => {
      const step = known.get(name);
      if (!step) return [];
      const own = events.filter((event) => facts(event).step === name);
      // What it follows, where nothing says when it was entered.
      const before = stages.slice(0, rank).flat();
      const after = stages.slice(rank + 1).flat();
      const [ready, turned] = [lastOf(events, before, ["done"]), lastOf(events, after, ["undone", "undo_failed"])];
      const failed = events.find((event) => kind(event) === "failed" && facts(event).outcome !== "parked");
      const marks = own.map((event) => ({ at: Date.parse(event.time), text: kind(event).replaceAll("_", " "), kind: kind(event) }));
      return [{
        step,
        spans: spansOf(saga, step, own, ready ?? Date.parse(events[0]?.time ?? saga.started_at), Math.max(turned ?? 0, failed ? Date.parse(failed.time) : 0), runs),
        marks,
        beside: names.filter((one) => one !== name),
      }];
    }),
  );
}

function spansOf(saga: Saga, step: Step, own: Event[], ready: number, turned: number, runs: Map<number, number>): Span[] {
  const spans: Span[] = [];
  const tried = { action: 0, undo: 0 };
  let free = ready;
  /** The wait that goes on, which the next event ends. */
  let open: Span | undefined;
  for (const event of own) {
    const { attempts: counted = 1, run = 0, entered_at, error, outcome, due_at, question } = facts(event);
    const at = Date.parse(event.time);
    const side = kind(event).startsWith("undo") ? "undo" : "action";
    // Attempts are counted over all runs.
    const attempts = Math.max(1, counted - tried[side]);
    tried[side] = Math.max(tried[side], counted);
    const told = isClaim(event) ? event.time : entered_at;
    const entered = told ? Math.min(Date.parse(told), at) : run > 0 ? runs.get(run) : undefined;
    const what = error ? `${inWords(error.type)}${error.message ? `: ${error.message}` : ""}` : "";
    const span = (sort: Sort, from: number, text: string) => spans.push({ sort, from: Math.min(from, at), to: at, attempts, run, text });
    const wait = (sort: Sort, text: string) => spans.push((open = { sort, from: at, to: null, attempts: 1, run, text }));
    const said = kind(event);
    if (said === "reminded") continue;
    const waited = open;
    if (open) open.to = waited?.sort === "operator" ? Math.max(open.from, entered ?? at) : at;
    open = undefined;
    switch (said) {
      case "later":
        wait("delay", due_at ? `until ${due_at}` : "");
        break;
      case "due":
        break;
      case "asked":
        span("action", entered ?? free, "asked");
        wait("decision", question?.answer_by ? `until ${question.answer_by}` : "");
        break;
      case "done":
      case "failed":
        // What was decided ends the wait; the action itself is not run again.
        if (waited?.sort === "decision") waited.text = said === "done" ? "decided" : what;
        else span(said === "done" ? "action" : "failed", Math.max(entered ?? free, waited?.to ?? 0) , outcome === "skipped" ? "skipped by an operator" : what);
        if (outcome === "parked") wait("operator", what);
        break;
      default: {
        const began = entered ?? Math.max(turned, free);
        span(said === "undone" ? "undo" : "undo-failed", outcome === "empty" ? at : began, outcome === "empty" ? "nothing to undo" : outcome === "skipped" ? "skipped by an operator" : what);
        if (said === "undo_failed") wait("operator", what);
      }
    }
    free = at;
  }
  if (open && step.status === "UNDOING" && open.sort === "operator") {
    // An operator has had it tried again.
    open.to = free;
    open = undefined;
  }
  if (step.status === "RUNNING" && !open) spans.push({ sort: "action", from: step.started_at ? Math.max(free, Date.parse(step.started_at)) : free, to: null, attempts: step.attempts, run: 0, text: "" });
  if (step.status === "UNDOING") spans.push({ sort: "undo", from: Math.max(free, turned), to: null, attempts: step.undo_attempts, run: 0, text: "" });
  if (open && saga.ended_at && !saga.stuck.includes(step.name)) open.to = Math.max(open.from, Date.parse(saga.ended_at));
  return spans;
}

function lastOf(events: Event[], steps: string[], kinds: string[]): number | undefined {
  const times = events.filter((event) => steps.includes(facts(event).step ?? "") && kinds.includes(kind(event))).map(({ time }) => Date.parse(time));
  return times.length ? Math.max(...times) : undefined;
}

/** Places moments on an axis, from 0 to 1. */
export interface Axis {
  at: (moment: number) => number;
  /** Where a stretch in which nothing ran was shortened: its place, and how long it was. */
  cuts: { from: number; to: number; lasted: number }[];
}

/** The axis of a saga: true to scale, but for long stretches in which every step waited.
 *
 * Steps act for milliseconds and may wait for days; an axis without this would show the wait alone.
 */
export function axisOf(spans: Span[], begin: number, end: number): Axis {
  const acting = spans
    .filter(({ sort }) => !isWait(sort))
    .map(({ from, to }): [number, number] => [Math.max(begin, from), Math.min(end, to ?? end)])
    .sort(([one], [other]) => one - other);
  const pieces: { from: number; to: number; idle: boolean }[] = [];
  let until = begin;
  for (const [from, to] of acting) {
    if (from > until) pieces.push({ from: until, to: from, idle: true });
    if (to > until) pieces.push({ from: Math.max(from, until), to, idle: false });
    until = Math.max(until, to);
  }
  if (end > until) pieces.push({ from: until, to: end, idle: true });
  const active = pieces.reduce((sum, { from, to, idle }) => sum + (idle ? 0 : to - from), 0);
  const most = Math.max(active, 200);
  const widths = pieces.map(({ from, to, idle }) => (idle && to - from > 3 * most ? most / 2 : to - from));
  const whole = widths.reduce((sum, width) => sum + width, 0) || 1;
  const cuts: Axis["cuts"] = [];
  let place = 0;
  const placed = pieces.map((piece, index) => {
    const from = place;
    place += widths[index]! / whole;
    if (widths[index]! < piece.to - piece.from) cuts.push({ from, to: place, lasted: piece.to - piece.from });
    return { ...piece, x: from, width: widths[index]! / whole };
  });
  const at = (moment: number): number => {
    const piece = placed.find(({ to }) => moment <= to) ?? placed.at(-1);
    if (!piece) return 0;
    const part = piece.to > piece.from ? (moment - piece.from) / (piece.to - piece.from) : 0;
    return Math.min(1, Math.max(0, piece.x + Math.min(1, Math.max(0, part)) * piece.width));
  };
  return { at, cuts };
}

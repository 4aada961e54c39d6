/** A saga in words: what an error means, what remains, what an event says. */
import type { Event, Saga, Schemas, Step } from "../../api/client";
import { duration } from "../../parts/show";

export type Declaration = Schemas["Declaration"];
export type Declared = Declaration["stages"][number][number];

/** The class name of an error as words: `RoomUnavailableError` is `Room unavailable`. */
export function inWords(error: string): string {
  const name = (error.split(".").at(-1) ?? error).replace(/(.)(Error|Exception)$/, "$1");
  const words = name.replace(/([a-z\d])([A-Z])/g, "$1 $2").replace(/([A-Z])([A-Z][a-z])/g, "$1 $2");
  return words.charAt(0).toUpperCase() + words.slice(1).replace(/ [A-Z](?=[a-z])/g, (one) => one.toLowerCase());
}

/** What remains of a saga, in a sentence, and how urgent that is: the name of a colour. */
export interface Remains {
  tone: "good" | "bad" | "undo" | "run" | "wait";
  text: string;
  /** What has become of the others, where an operator must know that. */
  more?: string;
  /** Until when it waits, if it does. */
  until?: string;
}

export function remains(saga: Saga, declaration: Declaration | undefined): Remains {
  const named = (...statuses: Step["status"][]) => saga.steps.filter(({ status }) => statuses.includes(status)).map(({ name }) => name);
  const declared = new Map(declaration?.stages.flat().map((step) => [step.name, step]));
  if (saga.steps.length === 0) {
    const over = saga.status === "SUCCEEDED" || saga.status === "COMPENSATED";
    return { tone: over ? "undo" : "bad", text: `${over ? "Nothing remains, but what" : "What"} its steps were is known no more.` };
  }
  if (saga.stuck.length > 0) {
    const said = saga.stuck.map((name) => {
      const step = saga.steps.find((one) => one.name === name);
      const what = step?.status === "UNDO_FAILED" ? `the undo of ${name}` : name;
      return step?.error ? `${what}: ${inWords(step.error)}${step.message ? `: ${step.message}` : ""}` : what;
    });
    const [undone, still, pending] = [named("UNDONE"), named("UNDOING"), named("PENDING")];
    const more = [
      undone.length ? `${list(undone)} ${are(undone)} undone.` : "",
      still.length ? `${list(still)} ${are(still)} being undone.` : "",
      saga.status === "RUNNING" ? `${list(named("DONE"))} ${are(named("DONE"))} done${pending.length ? `, ${list(pending)} remain${pending.length === 1 ? "s" : ""}` : ""}.` : "",
    ];
    return { tone: "bad", text: `Waits for an operator at ${said.join("; and at ")}`, more: more.filter(Boolean).join(" ") };
  }
  switch (saga.status) {
    case "SUCCEEDED": {
      const skipped = saga.steps.filter(({ status, attempts }) => status === "SKIPPED" && attempts > 0).map(({ name }) => name);
      const parts = [
        skipped.length ? `${list(skipped)} ${were(skipped)} skipped by an operator.` : "",
        saga.reversed_by ? "Another saga was begun to reverse it." : "",
      ];
      const text = [`Nothing remains: ${list(named("DONE"))} ${are(named("DONE"))} done.`, ...parts];
      return { tone: "good", text: text.filter(Boolean).join(" ") };
    }
    case "COMPENSATED": {
      const back = named("UNDONE");
      const text = back.length ? `${list(back)} ${were(back)} undone.` : "there was nothing to undo.";
      // What has a result has acted: its undo did not find nothing to undo.
      const stays = saga.steps.filter(({ status, result }) => status === "SKIPPED" && result !== null).map(({ name }) => name);
      const skipped = `The undo of ${list(stays)} was skipped by an operator: what ${stays.length === 1 ? "it has" : "they have"} done stays.`;
      return { tone: "undo", text: `Nothing remains: ${text}`, ...(stays.length ? { more: skipped } : {}) };
    }
    case "COMPENSATION_FAILED":
      return { tone: "bad", text: `An undo has failed: ${list(named("UNDO_FAILED"))}.` };
    case "COMPENSATING": {
      const [at, done] = [named("UNDOING"), named("UNDONE")];
      // What is done and has an undo; what it is is not said by a step whose declaration is unknown.
      const left = named("DONE").filter((name) => declared.get(name)?.undo ?? true);
      const lost = named("UNDO_FAILED");
      const parts = [
        at.length ? `${list(at)} ${are(at)} being undone` : "",
        left.length ? `${list(left)} remain${left.length === 1 ? "s" : ""}` : "",
        done.length ? `${list(done)} ${are(done)} undone` : "",
        lost.length ? `the undo of ${list(lost)} has failed` : "",
      ];
      return { tone: "undo", text: `Undoing: ${parts.filter(Boolean).join(", ") || "the failure was recorded just now"}.` };
    }
  }
  for (const step of saga.steps) {
    if (step.question) {
      const { to, answer_by } = step.question as { to?: string; answer_by?: string };
      const scope = declared.get(step.name)?.waits?.scope;
      const whom = to ?? (scope ? `the ${scope}` : "somebody");
      return { tone: "wait", text: `Waits at ${step.name} for a decision by ${whom}`, ...(answer_by ? { until: answer_by } : {}) };
    }
  }
  const later = saga.steps.find((step) => step.begins_at);
  if (later?.begins_at) return { tone: "wait", text: `Waits with ${later.name}`, until: later.begins_at };
  const running = named("RUNNING");
  const pending = named("PENDING");
  if (saga.begins_at && running.length === 0 && named("DONE", "FAILED").length === 0)
    return { tone: "wait", text: "Has not begun, and can be cancelled with no effect", until: saga.begins_at };
  const rest = pending.length ? `${list(pending)} remain${pending.length === 1 ? "s" : ""}` : "";
  const text = running.length ? `${list(running)} ${are(running)} running${rest ? `, ${rest}` : ", which is the last"}.` : `${rest || "Its end is being recorded"}.`;
  return { tone: "run", text: text.charAt(0).toUpperCase() + text.slice(1) };
}

/** What an event says beside its time, in words. */
export function said(event: Event): string {
  const { error, attempts, run, outcome, answer } = facts(event);
  const parts = [
    error ? `${inWords(error.type)}${error.message ? `: ${error.message}` : ""}` : "",
    answer ? `${answer.approved ? "approved" : "rejected"} by ${answer.by}${answer.reason ? `: ${answer.reason}` : ""}` : "",
    outcome === "empty" ? "there was nothing to undo" : outcome === "parked" ? "waits for an operator" : outcome ?? "",
    attempts && attempts > 1 ? `${attempts} attempts` : "",
    run ? `run ${run + 1}` : "",
  ];
  return parts.filter(Boolean).join(", ");
}

export interface Facts {
  step?: string;
  attempts?: number;
  entered_at?: string;
  /** Whether it comes from outside its turn: a pivot that was cancelled, for one. */
  early?: boolean;
  /** 0 is the first; each recovery, and what follows a decision, is one more. */
  run?: number;
  outcome?: string;
  due_at?: string;
  error?: { type: string; message: string };
  question?: { answer_by?: string; to?: string };
  answer?: { approved: boolean; by: string; reason: string };
}

/** What the data of an event have. */
export const facts = (event: Event): Facts => event.data as Facts;
/** Whether it says of a step that it never will act: it took no time. */
export const isClaim = (event: Event): boolean => kind(event) === "failed" && facts(event).early === true && facts(event).outcome !== "parked";
/** The last part of its type, such as `undo_failed`. */
export const kind = (event: Event): string => event.type.split(".").at(-1) ?? event.type;

export const since = (begun: string, at: string): string => {
  const passed = Date.parse(at) - Date.parse(begun);
  return `+${passed < 1000 ? `${Math.max(0, passed)} ms` : passed < 60_000 ? `${(passed / 1000).toFixed(3)} s` : duration(passed)}`;
};

export function list(names: string[]): string {
  return names.length < 2 ? (names[0] ?? "nothing") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
const are = (names: string[]): string => (names.length === 1 ? "is" : "are");
const were = (names: string[]): string => (names.length === 1 ? "was" : "were");

/** Moments, durations, statuses and ids, as every view shows them. */
import { useState } from "preact/hooks";
import { notify } from "./notices";

const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

/** A moment: the clock's time if it is of today, and the whole of it on hovering. */
export function Moment({ at }: { at: string }) {
  const moment = new Date(at);
  const today = moment.toDateString() === new Date().toDateString();
  return (
    <time dateTime={at} title={at}>
      {(today ? CLOCK : TIME).format(moment)}
    </time>
  );
}

/** A duration in words: `340 ms`, `4.2 s`, `3 min 20 s`, `2 d 3 h`. */
export function duration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.max(0, Math.round(milliseconds))} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const units: [number, string][] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = units.findIndex(([size]) => seconds >= size);
  const [[size, unit], [less, lesser]] = [units[at]!, units[at + 1] ?? units[at]!];
  const rest = Math.floor((seconds % size) / less);
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${lesser}` : ""}`;
}

/** A status in its colour; the word says it too. */
export function Status({ status }: { status: string }) {
  return <span class={`status ${status.toLowerCase().replaceAll("_", "-")}`}>{status.replaceAll("_", " ")}</span>;
}

/** An id, whole, that a press copies. */
export function Id({ id }: { id: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(id);
    setCopied(true);
    notify("Copied.");
    setTimeout(() => setCopied(false), 2000);
  };
  return (
    <button type="button" class="id" onClick={() => void copy()} title={copied ? "copied" : "copy"}>
      <code>{id}</code>
    </button>
  );
}

/** Any value as JSON: text, never markup. */
export function Json({ of }: { of: unknown }) {
  return <pre class="json" tabIndex={0}>{JSON.stringify(of, null, 2)}</pre>;
}

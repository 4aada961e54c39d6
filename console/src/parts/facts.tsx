/** What an answer says, as a list of names and values: money and moments as people write them. */
import type { ComponentChildren } from "preact";
import { isObject } from "./form";
import { money } from "./money";
import { Moment } from "./show";

const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/;

export function Facts({ of }: { of: Record<string, unknown> }) {
  const currency = typeof of["currency"] === "string" ? of["currency"] : undefined;
  return (
    <dl class="facts">
      {Object.entries(of).map(([name, value]) => (
        <div class="fact" key={name}>
          <dt>{words(name)}</dt>
          <dd>{shown(value, currency)}</dd>
        </div>
      ))}
    </dl>
  );
}

/** A value; a whole number beside a currency is so many of its minor units. */
function shown(value: unknown, currency: string | undefined): ComponentChildren {
  if (value === null || value === undefined) return <span class="hint">none</span>;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return currency && Number.isInteger(value) ? money(value, currency) : value.toLocaleString();
  if (typeof value === "string") return MOMENT.test(value) ? <Moment at={value} /> : value;
  if (Array.isArray(value)) return value.length === 0 ? <span class="hint">none</span> : <ul>{value.map((one, at) => <li key={at}>{shown(one, currency)}</li>)}</ul>;
  if (!isObject(value)) return String(value);
  const { amount, currency: of, ...rest } = value;
  if (typeof amount === "number" && typeof of === "string" && Object.keys(rest).length === 0) return money(amount, of);
  return <Facts of={value} />;
}

export function words(name: string): string {
  const text = name.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** A saga's events, as they are: each with its JSON. */
import { useState } from "preact/hooks";
import type { Event, Saga } from "../../api/client";
import { Json, Moment } from "../../parts/show";
import { Empty } from "../../parts/states";
import { facts, said, since } from "./words";

export function Events({ saga, events }: { saga: Saga; events: Event[] }) {
  const [of, setOf] = useState("");
  const shown = events.filter((event) => !of || (of === "saga" ? !facts(event).step : facts(event).step === `${of.slice(5)}`));
  return (
    <>
      <label>
        Events of
        <select value={of} onChange={(event) => setOf(event.currentTarget.value)}>
          <option value="">all</option>
          <option value="saga">the saga itself</option>
          {saga.steps.map(({ name }) => (
            <option key={name} value={`step ${name}`}>
              {name}
            </option>
          ))}
        </select>
      </label>
      {shown.length === 0 && <Empty>{events.length ? "There is none of it." : "There is no event yet."}</Empty>}
      <ol class="told" aria-label="Events">
        {shown.map((event) => {
          const before = events[events.indexOf(event) - 1];
          return (
            <li key={event.id}>
              <details>
                <summary>
                  <span class="hint">{event.sequence}</span> <strong>{pathOf(event)}</strong> <Moment at={event.time} />{" "}
                  <span class="hint" title="since the saga was started; since the event before">
                    {since(saga.started_at, event.time)}
                    {before && ` (${signed(before.time, event.time)})`}
                  </span>{" "}
                  {said(event)}
                </summary>
                <Json of={event} />
              </details>
            </li>
          );
        })}
      </ol>
    </>
  );
}

/** Its type without what all have: `hotel.failed`. */
const pathOf = (event: Event): string => event.type.split(".").slice(2).join(".");

/** Steps that run together may have events in another order than their times. */
function signed(before: string, at: string): string {
  return Date.parse(at) < Date.parse(before) ? since(at, before).replace("+", "−") : since(before, at);
}

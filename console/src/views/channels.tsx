/** Push against pull: the same events by every channel, and when each has brought them. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { api, call, must, UnreachableError, type Schemas } from "../api/client";
import { deployment, type SagaForm } from "../api/deployment";
import { may } from "../api/session";
import { Chart } from "../parts/chart";
import { size } from "../parts/clock";
import { CHANNELS, Race, type Channel, type Raced } from "../parts/race";
import { useResource } from "../parts/resource";
import { Failure, Loading } from "../parts/states";
import { Table } from "../parts/table";
import { to } from "../route";

const NAMES: Record<Channel, string> = {
  websocket: "WebSocket",
  sse: "Server-sent events",
  "long-poll": "Long poll of the feed",
  "saga-poll": "Poll of the saga by ETag",
  webhook: "Webhook",
};
const COLOURS: Record<Channel, string> = {
  websocket: "--accent",
  sse: "--good",
  "long-poll": "--undo",
  "saga-poll": "--bad",
  webhook: "--wait",
};
/** What each costs on AWS, in words; the figures are in docs/push-and-pull.md. */
const COSTS: Record<Channel, string> = {
  websocket: "a message an event and the minutes that it is open: next to nothing while idle",
  sse: "a function for as long as it is open, also while nothing happens",
  "long-poll": "a function that waits, and a request every 20 s at least",
  "saga-poll": "a request each time, whether anything has changed or not; 304 has no body",
  webhook: "a call of your endpoint for each event, which must be reachable and check a signature",
};
/** How many events are drawn. */
const DRAWN = 300;
const LISTED = 12;

export function Channels() {
  const webhooks = useResource("webhooks", () => must(api().GET("/webhooks")));
  const starts = useResource("cheapest", cheapest);
  if (webhooks.problem !== undefined && !webhooks.data) return <Failure problem={webhooks.problem} again={webhooks.reload} />;
  if (!webhooks.data) return <Loading what="Channels" />;
  // Those that do not fail come first.
  const enabled = webhooks.data.items
    .filter(({ status }) => status === "ENABLED")
    .sort((one, other) => Number(!!one.failing_since) - Number(!!other.failing_since));
  return <Racing webhooks={enabled} form={starts.data ?? null} />;
}

function Racing({ webhooks, form }: { webhooks: Schemas["Webhook"][]; form: SagaForm | null }) {
  const [webhook, setWebhook] = useState(webhooks[0]?.webhook_id ?? null);
  const [version, setVersion] = useState(0);
  const [running, setRunning] = useState(true);
  const [since, setSince] = useState<"first" | "event">("first");
  const [every, setEvery] = useState(1);
  const seconds = useRef(every);
  seconds.current = every;
  const race = useRef<Race | undefined>(undefined);
  useEffect(() => {
    if (!running) return;
    let due = 0;
    // Many changes are one drawing.
    const changed = () => (due ||= requestAnimationFrame(() => ((due = 0), setVersion((before) => before + 1))));
    const begun = new Race(changed, () => seconds.current, webhook);
    race.current = begun;
    return () => begun.end(); // which is drawn too: each channel says that it has stopped
  }, [running, webhook]);

  const current = race.current;
  const events = useMemo(
    () => [...(current?.events.values() ?? [])].sort((one, other) => first(one) - first(other)).slice(-DRAWN),
    [version, current],
  );
  const shown: readonly Channel[] = since === "event" ? CHANNELS : CHANNELS.filter((name) => name !== "webhook");
  const delay = (event: Raced, name: Channel): number | null => {
    const at = event.at[name];
    if (at === undefined) return null;
    return Math.max(0, since === "first" ? at - first(event) : at + (current?.skew ?? 0) - event.time);
  };
  const data = useMemo(
    () => [events.map((event) => first(event) / 1000), ...shown.map((name) => events.map((event) => delay(event, name)))],
    [events, since],
  );
  return (
    <>
      <h1>Push and pull</h1>
      <p class="hint">
        The same events reach this page by several channels at once, each a connection of its own. Start a saga, and see which is
        first, and what each takes.
      </p>
      <div class="filters">
        <Starting form={form} started={(id) => race.current?.follow(id)} />
        <button type="button" aria-pressed={running} onClick={() => setRunning(!running)}>
          {running ? "Stop" : "Listen again"}
        </button>
        <label>
          Delay since
          <select value={since} onChange={(event) => setSince(event.currentTarget.value as "first" | "event")}>
            <option value="first">the first arrival</option>
            <option value="event">the event itself</option>
          </select>
        </label>
        <label>
          Poll a saga every
          <select value={every} onChange={(event) => setEvery(Number(event.currentTarget.value))}>
            {[0.5, 1, 2, 5].map((choice) => (
              <option key={choice} value={choice}>
                {choice} s
              </option>
            ))}
          </select>
        </label>
        {webhooks.length > 1 && (
          <label>
            Webhook
            <select value={webhook ?? ""} onChange={(event) => setWebhook(event.currentTarget.value)}>
              {webhooks.map(({ webhook_id, url }) => (
                <option key={webhook_id} value={webhook_id}>
                  {url}
                </option>
              ))}
            </select>
          </label>
        )}
      </div>
      {since === "event" && <p class="hint">{skewed(current)}</p>}
      <Chart
        label="Delay of each event by channel, in milliseconds; the table below has the figures"
        unit="ms"
        series={shown.map((name) => ({ label: NAMES[name], colour: COLOURS[name] }))}
        data={data}
      />
      <Figures
        race={current}
        names={CHANNELS}
        delays={(name) => (shown.includes(name) ? events.flatMap((event) => delay(event, name) ?? []) : [])}
      />
      <p class="hint">
        Requests and bytes are those of this page's own connections since it began to listen: bytes of answers' bodies, and of a
        webhook's log, which only this page reads. No page can be called by a webhook, so its log says when each call was answered,
        by the API's clock: choose the delay since the event itself.{" "}
        {webhook ? (
          <a href={to(["webhooks", webhook])}>Its whole log</a>
        ) : (
          may("webhooks:write") && <a href={to(["webhooks"])}>Register a webhook</a>
        )}
      </p>
      <p class="hint">
        Milliseconds here are those of this browser and this deployment. What push and pull cost on AWS, and hold at their limits,
        is measured in the project's page <cite>Push and pull</cite> (docs/push-and-pull.md).
      </p>
      <Latest events={events.slice(-LISTED).reverse()} names={shown} delay={delay} />
    </>
  );
}

const first = (event: Raced): number =>
  Math.min(...Object.entries(event.at).flatMap(([name, at]) => (name === "webhook" ? [] : [at])));

function skewed(race: Race | undefined): string {
  if (!race || !Number.isFinite(race.ahead.least)) return "How much the clocks differ is not known yet: no answer has had a date.";
  const { least, most } = race.ahead;
  const off = Math.round((most - least) / 2);
  const side = race.skew < 0 ? "behind" : "ahead of";
  return `By its answers' dates the API's clock is ${Math.round(Math.abs(race.skew))} ms ${side} this browser's, give or take ${off} ms; that is taken off. A delay is no more exact than that.`;
}

function Figures({
  race,
  names,
  delays,
}: {
  race: Race | undefined;
  names: readonly Channel[];
  delays: (name: Channel) => number[];
}) {
  return (
    <Table
      label="Channels"
      head={["Channel", "Now", "Events", "Median", "95 of 100 within", "Requests", "Bytes", "On AWS it costs"]}
    >
      {names.map((name) => {
        const found = delays(name).sort((one, other) => one - other);
        const spent = race?.spent[name];
        return (
          <tr key={name}>
            <th scope="row">{NAMES[name]}</th>
            <td>{spent?.state}</td>
            <td>{race ? [...race.events.values()].filter((event) => event.at[name] !== undefined).length : 0}</td>
            <td class="number">{at(found, 0.5)}</td>
            <td class="number">{at(found, 0.95)}</td>
            <td>{spent?.requests.toLocaleString()}</td>
            <td class="number">{spent && size(spent.bytes)}</td>
            <td class="hint">{COSTS[name]}</td>
          </tr>
        );
      })}
    </Table>
  );
}

function at(sorted: number[], part: number): string {
  const found = sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)];
  return found === undefined ? "–" : `${Math.round(found).toLocaleString()} ms`;
}

function Latest({
  events,
  names,
  delay,
}: {
  events: Raced[];
  names: readonly Channel[];
  delay: (event: Raced, name: Channel) => number | null;
}) {
  if (events.length === 0) return <p class="state">No event has come yet.</p>;
  return (
    <>
      <h2>The latest events</h2>
      <Table label="The latest events" head={["Event", ...names.map((name) => NAMES[name])]}>
        {events.map((event) => (
          <tr key={event.id}>
            <td>
              <a href={to(["sagas", event.saga])}>{event.type}</a>
            </td>
            {names.map((name) => {
              const found = delay(event, name);
              return <td key={name}>{found === null ? "–" : `${Math.round(found)} ms`}</td>;
            })}
          </tr>
        ))}
      </Table>
    </>
  );
}

/** The saga with the fewest steps that has an example. */
async function cheapest(): Promise<SagaForm | null> {
  const { sagas, schema } = await deployment();
  const possible = sagas.filter(({ example }) => typeof example === "object" && example !== null);
  const found = possible.sort((one, other) => one.steps.length - other.steps.length)[0];
  return found ? { ...found, request: schema(found.request) } : null;
}

function Starting({ form, started }: { form: SagaForm | null; started: (id: string) => void }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>();
  if (!may("sagas:write") || !form) return null;
  const start = async () => {
    setBusy(true);
    setProblem(undefined);
    const key = crypto.randomUUID();
    try {
      const saga = (await call("POST", `/sagas/${form.name}`, another(form, key), { "idempotency-key": key })) as {
        saga_id: string;
      };
      started(saga.saga_id);
    } catch (caught) {
      setProblem(
        caught instanceof UnreachableError ? new Error("No answer came: it may have been started. Its events show it.") : caught,
      );
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <button type="button" class="first" disabled={busy} onClick={() => void start()}>
        Start one: {form.name}
      </button>
      {problem !== undefined && <Failure problem={problem} />}
    </>
  );
}

/** The saga's example under a new id: its first field that must be given, and is text. */
function another(form: SagaForm, key: string): unknown {
  const example = form.example as Record<string, unknown>;
  const id = Object.keys(example).find((name) => typeof example[name] === "string" && form.request.required?.includes(name));
  return id ? { ...example, [id]: `${String(example[id])}-${key.slice(0, 8)}` } : example;
}

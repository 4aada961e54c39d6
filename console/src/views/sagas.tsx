/** The sagas: a live list with filters, and one of them. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { api, must, type Saga } from "../api/client";
import { listen } from "../api/live";
import { deployment } from "../api/deployment";
import { Empty, Failure, Loading } from "../parts/states";
import { duration, Moment, Status } from "../parts/show";
import { useResource } from "../parts/resource";
import { Window } from "../parts/window";
import { go, query, to } from "../route";
import { OneSaga } from "./saga";

const STATUSES = ["RUNNING", "COMPENSATING", "SUCCEEDED", "COMPENSATED", "COMPENSATION_FAILED"] as const;
const ROW = 44;
/** How many sagas a page of the API has. */
const PAGE = 100;
/** Without an event the newest page is asked for again after so many milliseconds. */
const IDLE = 5_000;

export function Sagas({ parts }: { parts: string[] }) {
  return parts[0] ? <OneSaga key={parts[0]} id={parts[0]} /> : <List />;
}

function List() {
  const filters = Object.fromEntries(query.value) as { saga?: string; status?: Saga["status"]; business_key?: string };
  const names = useResource("names", deployment).data?.sagas.map(({ name }) => name) ?? [];
  const change = (name: string, value: string) => go(to(["sagas"], { ...filters, [name]: value }), { replace: true });
  return (
    <>
      <h1>Sagas</h1>
      <search class="filters">
        <label>
          Saga
          <select value={filters.saga ?? ""} onChange={(event) => change("saga", event.currentTarget.value)}>
            <option value="">all</option>
            {names.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <label>
          Status
          <select value={filters.status ?? ""} onChange={(event) => change("status", event.currentTarget.value)}>
            <option value="">all</option>
            {STATUSES.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            change("business_key", String(new FormData(event.currentTarget).get("business_key") ?? ""));
          }}
        >
          <label>
            Business key
            <input name="business_key" type="search" key={filters.business_key} defaultValue={filters.business_key} />
          </label>
          <button type="submit">Search</button>
        </form>
      </search>
      <Found key={JSON.stringify(filters)} filters={filters} />
    </>
  );
}

/** What a filter has found, newest first: more is asked for as one scrolls. */
function Found({ filters }: { filters: Record<string, string> }) {
  const [sagas, setSagas] = useState<Map<string, Saga>>(new Map());
  const [cursor, setCursor] = useState<string | null | undefined>(undefined);
  const [problem, setProblem] = useState<unknown>();
  const asking = useRef(false);

  const page = (after?: string) =>
    must(api().GET("/sagas", { params: { query: { ...filters, limit: PAGE, ...(after ? { cursor: after } : {}) } as object } }));

  const newest = async () => {
    try {
      const found = await page();
      setProblem(undefined);
      setCursor((before) => (before === undefined ? found.cursor : before));
      setSagas((before) => merged(found.items, before, filters));
    } catch (caught) {
      setProblem(caught);
    }
  };
  const more = async () => {
    if (asking.current || !cursor) return;
    asking.current = true;
    try {
      const found = await page(cursor);
      setCursor(found.cursor);
      setSagas((before) => new Map([...before, ...found.items.map((one): [string, Saga] => [one.saga_id, one])]));
    } catch (caught) {
      setProblem(caught);
    } finally {
      asking.current = false;
    }
  };

  useEffect(() => {
    let due: ReturnType<typeof setTimeout> | undefined;
    let ask = () => {};
    const later = (milliseconds: number) => {
      clearTimeout(due);
      due = setTimeout(() => ask(), milliseconds);
    };
    ask = () => void (document.hidden ? Promise.resolve() : newest()).then(() => later(IDLE));
    ask();
    let soon = 0;
    const end = listen(() => {
      // Many events make one call: at once, and then at most three a second.
      const now = Date.now();
      soon = Math.max(now, soon + 300);
      if (soon - now < 600) later(soon - now);
    });
    return () => (clearTimeout(due), (ask = () => {}), end());
  }, []);

  const rows = useMemo(() => [...sagas.values()], [sagas]);
  const counts = useMemo(() => counted(rows), [rows]);
  if (problem !== undefined && rows.length === 0) return <Failure problem={problem} again={() => void newest()} />;
  if (cursor === undefined) return <Loading what="Sagas" />;
  if (rows.length === 0)
    return (
      <Empty>
        <p>{Object.values(filters).some(Boolean) ? "No saga is like that." : "There is no saga yet."}</p>
        <a href={to(["start"])}>Start one</a>
      </Empty>
    );
  return (
    <>
      <p class="counts" aria-live="off">
        {STATUSES.map((status) => (
          <button
            type="button"
            key={status}
            aria-pressed={filters["status"] === status}
            onClick={() => go(to(["sagas"], { ...filters, status: filters["status"] === status ? "" : status }), { replace: true })}
          >
            <Status status={status} /> {counts[status] ?? 0}
          </button>
        ))}
        <span>{cursor ? `of the newest ${rows.length.toLocaleString()}` : `of ${rows.length.toLocaleString()}`}</span>
      </p>
      <Window
        label="Sagas"
        count={rows.length}
        height={ROW}
        end={() => void more()}
        head={["Business key", "Saga", "Status", "Reason", "Started", "Took"]}
        row={(at) => <Row saga={rows[at]!} />}
      />
    </>
  );
}

function Row({ saga }: { saga: Saga }) {
  const end = saga.ended_at ? Date.parse(saga.ended_at) : Date.now();
  return (
    <>
      <span role="cell">
        <a href={to(["sagas", saga.saga_id])}>{saga.business_key}</a>
      </span>
      <span role="cell">{saga.saga}</span>
      <span role="cell">
        <Status status={saga.status} />
      </span>
      <span role="cell" class="cut" title={saga.reason?.message}>
        {saga.stuck.length > 0 ? `waits for an operator: ${saga.stuck.join(", ")}` : saga.reason && `${saga.reason.step}: ${saga.reason.error}`}
      </span>
      <span role="cell">
        <Moment at={saga.started_at} />
      </span>
      <span role="cell">{duration(end - Date.parse(saga.started_at))}</span>
    </>
  );
}

/** The list with its newest page as it is now; what a filter has no more is taken out. */
function merged(fresh: Saga[], before: Map<string, Saga>, filters: Record<string, string>): Map<string, Saga> {
  const there = new Map(fresh.map((one): [string, Saga] => [one.saga_id, one]));
  const oldest = fresh.at(-1)?.started_at ?? "";
  const whole = fresh.length < PAGE;
  const kept = [...before].filter(
    ([id, saga]) => !there.has(id) && !whole && (saga.started_at < oldest || (!filters["status"] && saga.started_at === oldest)),
  );
  return new Map([...there, ...kept]);
}

function counted(sagas: Saga[]): Partial<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const { status } of sagas) found[status] = (found[status] ?? 0) + 1;
  return found;
}

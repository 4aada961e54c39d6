/** Accounts and inventory: what there is of each, what running sagas hold of it, and changing it. */
import type { TargetedSubmitEvent } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { call, ProblemError, UnreachableError } from "../api/client";
import { deployment, type Deployment, type Holding } from "../api/deployment";
import { isOperator } from "../api/session";
import { useEvery } from "../parts/clock";
import { Facts } from "../parts/facts";
import { changed, focusWrong, fresh, righted, SchemaFields, wrongOf, type Wrong } from "../parts/form";
import { useKept } from "../parts/kept";
import { money } from "../parts/money";
import { notify } from "../parts/notices";
import { useResource } from "../parts/resource";
import { Moment } from "../parts/show";
import { useEvents } from "../parts/soon";
import { Empty, Failure, Loading } from "../parts/states";
import { go, to } from "../route";

type Shown = Record<string, unknown>;

/** Sagas of others change it too, whose events are not heard here. */
const IDLE = 10_000;
/** How many ids a tab remembers of each kind. */
const KEPT = 12;

export function Holdings({ parts: [name, id] }: { parts: string[] }) {
  const { data, problem, reload } = useResource("deployment", deployment);
  const [looked, setLooked] = useKept<Record<string, string[]>>("holdings", () => ({}));
  if (problem !== undefined) return <Failure problem={problem} again={reload} />;
  if (!data) return <Loading what="Holdings" />;
  const remember = (kind: string, one: string) =>
    setLooked((before) => (before[kind]?.[0] === one ? before : { ...before, [kind]: [one, ...(before[kind] ?? []).filter((other) => other !== one)].slice(0, KEPT) }));
  const kind = data.holdings.find((one) => one.name === name);
  if (name && !kind) return <Failure problem={new Error(`This deployment has no ${name}.`)} again={() => go(to(["holdings"]))} />;
  if (kind && id) return <One key={`${name}/${id}`} kind={kind} id={id} of={data} found={() => remember(kind.name, id)} />;
  const kinds = kind ? [kind] : data.holdings;
  return (
    <>
      <h1>Holdings</h1>
      <p class="hint">What the services have: looked up by its id, for there is no list of them.</p>
      {kinds.length === 0 && <Empty>This deployment shows none.</Empty>}
      <div class="cards">
        {kinds.map((one) => (
          <LookUp key={one.name} kind={one} ids={looked[one.name] ?? []} />
        ))}
      </div>
    </>
  );
}

function LookUp({ kind: { name, id }, ids }: { kind: Holding; ids: string[] }) {
  const offered = [...new Set([...ids, ...(id === undefined ? [] : [id])])];
  const look = (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    go(to(["holdings", name, String(new FormData(event.currentTarget).get("id")).trim()]));
  };
  return (
    <section class="card" aria-label={name}>
      <h2 class="flush">{name}</h2>
      <form class="line" onSubmit={look}>
        <label>
          Id
          <input name="id" required pattern=".*\S.*" autoComplete="off" spellcheck={false} placeholder={id} />
        </label>
        <button type="submit">Look up</button>
      </form>
      {offered.length > 0 && (
        <ul class="offered">
          {offered.map((one) => (
            <li key={one}>
              <a href={to(["holdings", name, one])}>{one}</a>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

function One({ kind, id, of, found }: { kind: Holding; id: string; of: Deployment; found: () => void }) {
  const path = `/${kind.name}/${encodeURIComponent(id)}`;
  const { data, problem, reload } = useResource<Shown | null>(path, async (stop) => {
    try {
      return (await call("GET", path, undefined, {}, stop)) as Shown;
    } catch (caught) {
      if (caught instanceof ProblemError && caught.problem.status === 404) return null;
      throw caught;
    }
  });
  const [editing, setEditing] = useState(false);
  useEvery(IDLE, reload);
  useEvents(reload);
  useEffect(() => {
    if (data) found();
  }, [Boolean(data)]);
  return (
    <>
      <h1>
        <a href={to(["holdings"])}>Holdings</a> / {kind.name} / {id}
      </h1>
      {problem !== undefined && <Failure problem={problem} again={reload} />}
      {data === undefined && problem === undefined && <Loading what={id} />}
      {data === null && (
        <Empty>
          There is no {id} among the {kind.name}, or it is somebody else's.
          {!isOperator.value && " An operator can create it."}
        </Empty>
      )}
      {data && <State of={data} />}
      {data !== undefined && isOperator.value && !editing && (
        <div class="buttons">
          <button type="button" onClick={() => setEditing(true)}>
            {data ? "Change it" : "Create it"}
          </button>
        </div>
      )}
      {data !== undefined && editing && (
        <Change kind={kind} path={path} now={data} of={of} reload={reload} close={() => setEditing(false)} />
      )}
    </>
  );
}

/** What it is now: its parts as a bar, and everything else that the answer says. */
function State({ of }: { of: Shown }) {
  const { id: _, total, balance, available, held, confirmed, held_by, held_since, ...rest } = of;
  const currency = typeof of["currency"] === "string" ? of["currency"] : undefined;
  const parts = Object.entries({ available, held, confirmed }).filter((one): one is [string, number] => typeof one[1] === "number");
  const whole = total ?? balance;
  return (
    <div class="card" role="group" aria-label="As it is now">
      {parts.length > 0 && <Bar parts={parts} whole={typeof whole === "number" ? whole : undefined} currency={currency} />}
      {typeof held_by === "number" && (
        <p>
          {held_by === 0 ? (
            "No running saga holds any of it."
          ) : (
            <>
              {held_by === 1 ? "One running saga holds" : `${held_by.toLocaleString()} running sagas hold`} some of it
              {typeof held_since === "string" && (
                <>
                  , {held_by === 1 ? "begun" : "the oldest begun"} <Moment at={held_since} />
                </>
              )}
              .
            </>
          )}
        </p>
      )}
      <Facts of={rest} />
    </div>
  );
}

function Bar({ parts, whole, currency }: { parts: [string, number][]; whole: number | undefined; currency: string | undefined }) {
  const shown = (amount: number) => (currency ? money(amount, currency) : amount.toLocaleString());
  const sum = parts.map(([name, amount]) => `${name} ${shown(amount)}`).join(" + ");
  return (
    <>
      <div class="bar" aria-hidden="true">
        {parts.map(([name, amount]) => amount > 0 && <span key={name} class={name} style={{ flexGrow: amount }} />)}
      </div>
      <p class="legend" aria-label={`${whole === undefined ? "" : `${shown(whole)} = `}${sum}`}>
        {whole !== undefined && (
          <span>
            <strong>{shown(whole)}</strong> {currency ? "balance" : "total"} =
          </span>
        )}
        {parts.map(([name, amount]) => (
          <span key={name} class={`key ${name}`}>
            <strong>{shown(amount)}</strong> {name}
          </span>
        ))}
      </p>
    </>
  );
}

interface Changing {
  kind: Holding;
  path: string;
  /** What it is; null where there is none. */
  now: Shown | null;
  of: Deployment;
  reload: () => void;
  close: () => void;
}

function Change({ kind, path, now, of, reload, close }: Changing) {
  const offered = bodyOf(now, kind, of);
  const [began, setBegan] = useState(offered);
  const [value, setValue] = useState<unknown>(offered);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>();
  const [wrong, setWrong] = useState<Wrong>(new Map());
  const shown = useRef<HTMLFormElement>(null);
  const sending = useRef(false);
  useEffect(() => {
    if (shown.current && wrong.size) focusWrong(shown.current, wrong);
  }, [problem]);
  useEffect(() => shown.current?.querySelector<HTMLElement>("input, select, textarea")?.focus(), []);
  const begin = (anew: unknown) => (setBegan(offered), setValue(anew), setWrong(new Map()), setProblem(undefined));
  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    if (sending.current) return;
    sending.current = true;
    setBusy(true);
    setProblem(undefined);
    setWrong(new Map());
    try {
      await call("PUT", path, value);
      notify(now ? "Changed." : "Created.");
      close();
    } catch (caught) {
      const uncertain = caught instanceof UnreachableError || (caught instanceof ProblemError && caught.problem.status >= 500);
      setWrong(wrongOf(caught));
      setProblem(uncertain ? new Error("No answer came: it may have been done. Look at what it is now, and then try again.") : caught);
    } finally {
      sending.current = false;
      setBusy(false);
      reload();
    }
  };
  return (
    <form ref={shown} class="schema" aria-label={now ? "Change it" : "Create it"} onSubmit={(event) => void submit(event)}>
      <h2>{now ? "Change it" : "Create it"}</h2>
      {JSON.stringify(offered) !== JSON.stringify(began) && (
        <p class="invalid" role="status">
          It has changed since you began: what you send replaces what it is now.{" "}
          <button type="button" onClick={() => begin(offered)}>
            Begin with what it is now
          </button>
        </p>
      )}
      {!now && kind.example !== undefined && (
        <button type="button" onClick={() => begin(kind.example)}>
          Fill with the example
        </button>
      )}
      <SchemaFields
        of={kind.body}
        value={value}
        change={(at, next) => {
          setWrong((before) => righted(before, at));
          setValue((before: unknown) => changed(before, at, next));
        }}
        wrong={wrong}
        resolve={of.schema}
      />
      {problem !== undefined && <Failure problem={problem} />}
      <div class="buttons">
        <button type="submit" class="first" disabled={busy}>
          {busy ? "Sending…" : now ? "Change" : "Create"}
        </button>
        <button type="button" class="quiet" onClick={close}>
          Not now
        </button>
      </div>
    </form>
  );
}

/** What would be sent to leave it as it is. */
function bodyOf(now: Shown | null, kind: Holding, of: Deployment): unknown {
  if (!now) return fresh(kind.body, of.schema);
  const names = Object.keys(of.schema(kind.body).properties ?? {});
  return Object.fromEntries(names.flatMap((name) => (now[name] === undefined || now[name] === null ? [] : [[name, now[name]]])));
}

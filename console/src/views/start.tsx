/** Start a saga: by a form made of what its request may be, or by JSON. */
import { Fragment, type TargetedSubmitEvent } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { call, ProblemError, UnreachableError, type Saga } from "../api/client";
import { deployment, type Deployment, type SagaForm } from "../api/deployment";
import { changed, focusWrong, fresh, isObject, righted, SchemaFields, wrongOf, type Path, type Wrong } from "../parts/form";
import { JsonError, readJson } from "../parts/json";
import { useKept } from "../parts/kept";
import { rfc3339 } from "../parts/moments";
import { useResource } from "../parts/resource";
import { Empty, Failure, Loading } from "../parts/states";
import { go, to } from "../route";

const COORDINATIONS = ["orchestration", "choreography"] satisfies Saga["coordination"][];
/** What the header `Recourse-Chaos` may ask for, and what happens then. */
const FAULTS: Record<string, string> = {
  reject: "the step refuses",
  error: "an error that may pass, before any effect",
  crash: "the effect, and no answer",
  timeout: "the effect, and an answer too late",
  late: "the action arrives once it has been undone",
  duplicate: "two deliveries at the same time",
};

interface Fault {
  fault: string;
  /** How many attempts meet it; empty for every one. */
  times: string;
}

/** A form as it is filled in; it outlives a reload. */
interface Draft {
  value: unknown;
  /** The JSON as it was typed, until a field is changed. */
  text?: string | undefined;
  coordination: string;
  notBefore: string;
  /** By `step` or `step.undo`. */
  faults: Record<string, Fault>;
  /** The Idempotency-Key: the same for each try of the same form. */
  key: string;
  /** The saga that it has started. */
  started?: string | undefined;
}

export function Start({ parts }: { parts: string[] }) {
  const { data, problem, reload } = useResource("deployment", deployment);
  if (problem !== undefined) return <Failure problem={problem} again={reload} />;
  if (!data) return <Loading what="What can be started" />;
  const name = parts[0];
  if (!name) return <Choices sagas={data.sagas} />;
  const form = data.sagas.find((one) => one.name === name);
  if (form) return <Form key={name} form={form} of={data} />;
  return <Failure problem={new Error(`There is no saga ${name} that can be started.`)} again={() => go(to(["start"]))} />;
}

function Choices({ sagas }: { sagas: SagaForm[] }) {
  return (
    <>
      <h1>Start a saga</h1>
      {sagas.length === 0 && <Empty>This deployment has none.</Empty>}
      <div class="cards">
        {sagas.map(({ name, summary, steps }) => (
          <section class="card" key={name}>
            <h2 class="flush">
              <a href={to(["start", name])}>{name}</a>
            </h2>
            <p class="hint">{steps.length ? steps.join(" → ") : summary}</p>
          </section>
        ))}
      </div>
    </>
  );
}

function Form({ form, of }: { form: SagaForm; of: Deployment }) {
  const [draft, setDraft] = useKept<Draft>(`start.${form.name}`, () => ({
    value: fresh(form.request, of.schema),
    coordination: "",
    notBefore: "",
    faults: {},
    key: crypto.randomUUID(),
  }));
  const [asJson, setAsJson] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>();
  const [wrong, setWrong] = useState<Wrong>(new Map());
  const shown = useRef<HTMLFormElement>(null);
  const sending = useRef(false);

  // What differs from what has been started is another saga; what only may have been keeps its key.
  const change = (how: (before: Draft) => Partial<Draft>) =>
    setDraft((before) => ({ ...before, ...(before.started ? { key: crypto.randomUUID(), started: undefined } : {}), ...how(before) }));
  const changeField = (path: Path, value: unknown) => {
    setWrong((before) => righted(before, path));
    change((before) => ({ value: changed(before.value, path, value), text: undefined }));
  };
  const fill = () => {
    setWrong(new Map());
    setProblem(undefined);
    change(() => ({ value: another(form.example, form, of), text: undefined }));
  };

  useEffect(() => {
    if (shown.current && wrong.size) focusWrong(shown.current, wrong);
  }, [problem]);

  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    if (sending.current) return;
    sending.current = true;
    setBusy(true);
    setProblem(undefined);
    setWrong(new Map());
    const chaos = of.chaos ? chaosOf(draft.faults) : "";
    const query = draft.coordination ? `?coordination=${draft.coordination}` : "";
    try {
      const saga = (await call("POST", `/sagas/${encodeURIComponent(form.name)}${query}`, draft.value, {
        "idempotency-key": draft.key,
        ...(draft.notBefore ? { "not-before": rfc3339(draft.notBefore) } : {}),
        ...(chaos ? { "recourse-chaos": chaos } : {}),
      })) as Saga;
      setDraft((before) => ({ ...before, started: saga.saga_id }));
      go(to(["sagas", saga.saga_id]));
    } catch (found) {
      setWrong(wrongOf(found));
      setProblem(found);
    } finally {
      sending.current = false;
      setBusy(false);
    }
  };

  return (
    <>
      <h1>Start {form.name}</h1>
      <p class="hint">{form.steps.length ? form.steps.join(" → ") : form.summary}</p>
      {draft.started && (
        <div class="state done" role="status">
          <p>
            This has been started: <a href={to(["sagas", draft.started])}>see the saga</a>. Started again as it is, it is the same one.
          </p>
          <button type="button" onClick={() => change((before) => ({ value: another(before.value, form, of), text: undefined }))}>
            Make it another one
          </button>
        </div>
      )}
      <form ref={shown} onSubmit={(event) => void submit(event)} class="schema" aria-label={`Start ${form.name}`}>
        <div class="buttons above">
          <span role="group" aria-label="Fill it in as" class="toggle">
            <button type="button" aria-pressed={!asJson} onClick={() => setAsJson(false)}>
              Form
            </button>
            <button type="button" aria-pressed={asJson} onClick={() => setAsJson(true)}>
              JSON
            </button>
          </span>
          {form.example !== undefined && (
            <button type="button" onClick={fill}>
              Fill with the example
            </button>
          )}
        </div>
        {asJson ? (
          <Pasted
            text={draft.text ?? JSON.stringify(draft.value, null, 2) ?? ""}
            wrong={wrong}
            change={(text, value) => change((before) => ({ text, value: value === undefined ? before.value : value.of }))}
          />
        ) : (
          <SchemaFields of={form.request} value={draft.value} change={changeField} wrong={wrong} resolve={of.schema} />
        )}
        <fieldset>
          <legend>When and how</legend>
          <div class="fields">
            <div class="field">
              <label for="not-before">Not before</label>
              <input
                id="not-before"
                type="datetime-local"
                aria-describedby="not-before-hint"
                value={draft.notBefore}
                onInput={({ currentTarget: { value } }) => change(() => ({ notBefore: value }))}
              />
              <span class="hint" id="not-before-hint">
                {draft.notBefore ? rfc3339(draft.notBefore) : "at once"}
              </span>
            </div>
            <div class="field">
              <label for="coordination">Coordination</label>
              <select id="coordination" value={draft.coordination} onChange={({ currentTarget: { value } }) => change(() => ({ coordination: value }))}>
                <option value="">as it is declared</option>
                {COORDINATIONS.map((one) => (
                  <option key={one}>{one}</option>
                ))}
              </select>
            </div>
          </div>
        </fieldset>
        {of.chaos && form.steps.length > 0 && (
          <Faults steps={form.steps} faults={draft.faults} change={(faults) => change(() => ({ faults }))} refused={kindOf(problem) === "unknown-fault"} />
        )}
        {problem !== undefined && (
          <Refused
            problem={problem}
            again={() => shown.current?.requestSubmit()}
            renew={() => (setProblem(undefined), setDraft((before) => ({ ...before, key: crypto.randomUUID() })))}
          />
        )}
        <div class="buttons">
          <button type="submit" class="first" disabled={busy}>
            {busy ? "Starting…" : "Start"}
          </button>
        </div>
        <p class="hint">
          Idempotency-Key: <code>{draft.key}</code>
        </p>
      </form>
    </>
  );
}

/** The request as JSON, with what is wrong by its line. */
function Pasted({ text, wrong, change }: { text: string; wrong: Wrong; change: (text: string, value?: { of: unknown }) => void }) {
  const area = useRef<HTMLTextAreaElement>(null);
  const { found, lines } = looked(text);
  const flaws = found ? [{ line: found.line, message: found.message }] : [...wrong].map(([field, message]) => ({ line: lineOf(field, lines), message: `line ${lineOf(field, lines)}: ${field}: ${message}` }));
  useEffect(() => area.current?.setCustomValidity(found?.message ?? ""), [found?.message]);
  useEffect(() => {
    if (wrong.size) area.current?.focus();
  }, [wrong]);
  const show = (line: number) => {
    const before = text.split("\n").slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    area.current?.focus();
    area.current?.setSelectionRange(before, before + (text.split("\n")[line - 1]?.length ?? 0));
  };
  return (
    <div class="field">
      <label for="pasted">Request</label>
      <textarea
        id="pasted"
        ref={area}
        class="code tall"
        required
        spellcheck={false}
        value={text}
        aria-invalid={flaws.length > 0 ? true : undefined}
        aria-describedby="pasted-flaws"
        onInput={({ currentTarget: { value } }) => {
          const { read } = looked(value);
          change(value, read && { of: read.value });
        }}
      />
      <ul class="invalid plain" id="pasted-flaws">
        {flaws.map(({ line, message }) => (
          <li key={message}>
            {message}{" "}
            <button type="button" class="quiet" onClick={() => show(line)}>
              Show line {line}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

function looked(text: string): { read?: ReturnType<typeof readJson>; found?: JsonError; lines: Map<string, number> } {
  try {
    const read = readJson(text);
    return { read, lines: read.lines };
  } catch (found) {
    if (!(found instanceof JsonError)) throw found;
    return { found, lines: new Map() };
  }
}

/** The line of a field; of what it would be in, where it is missing. */
function lineOf(field: string, lines: Map<string, number>): number {
  for (let parts = field.split("."); parts.length > 0; parts = parts.slice(0, -1)) {
    const line = lines.get(parts.join("."));
    if (line) return line;
  }
  return 1;
}

interface Faulty {
  steps: string[];
  faults: Draft["faults"];
  change: (faults: Draft["faults"]) => void;
  /** Whether the API has refused them. */
  refused: boolean;
}

/** What shall go wrong, step by step. */
function Faults({ steps, faults, change, refused }: Faulty) {
  const box = useRef<HTMLDetailsElement>(null);
  const asked = chaosOf(faults);
  useEffect(() => {
    if (!refused) return;
    box.current!.open = true;
    box.current!.querySelector<HTMLElement>("select")?.focus();
  }, [refused]);
  const cells = (target: string, what: string, possible: string[]) => {
    const { fault = "", times = "" } = faults[target] ?? {};
    const set = (next: Partial<Fault>) => change({ ...faults, [target]: { fault, times, ...next } });
    return (
      <>
        <td>
          <select aria-label={`Fault of ${what}`} value={fault} onChange={({ currentTarget: { value } }) => set({ fault: value })}>
            <option value="">none</option>
            {possible.map((one) => (
              <option key={one} title={FAULTS[one]}>
                {one}
              </option>
            ))}
          </select>
        </td>
        <td>
          <input
            type="number"
            min={1}
            max={9999}
            aria-label={`Attempts of ${what} that meet it`}
            placeholder="every"
            disabled={!fault}
            value={times}
            onInput={({ currentTarget: { value } }) => set({ times: value })}
          />
        </td>
      </>
    );
  };
  return (
    <details ref={box} open={Boolean(asked)} class="card">
      <summary>Faults{asked && ": "}{asked && <code>{asked}</code>}</summary>
      <p class="hint">What shall go wrong, to see what the saga makes of it. Only steps before the pivot have an undo, and those after it cannot be late.</p>
      <dl class="facts">
        {Object.entries(FAULTS).map(([name, what]) => (
          <Fragment key={name}>
            <dt>{name}</dt>
            <dd>{what}</dd>
          </Fragment>
        ))}
      </dl>
      <div class="scroll">
        <table class="faults">
          <thead>
            <tr>
              <th scope="col">Step</th>
              <th scope="col">Its action</th>
              <th scope="col">Attempts</th>
              <th scope="col">Its undo</th>
              <th scope="col">Attempts</th>
            </tr>
          </thead>
          <tbody>
            {steps.map((step) => (
              <tr key={step}>
                <th scope="row">{step}</th>
                {cells(step, step, Object.keys(FAULTS))}
                {cells(`${step}.undo`, `the undo of ${step}`, Object.keys(FAULTS).filter((one) => one !== "late"))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

/** Why it was not started, or that this is not known, and what to do then. */
function Refused({ problem, again, renew }: { problem: unknown; again: () => void; renew: () => void }) {
  const uncertain = problem instanceof UnreachableError || (problem instanceof ProblemError && problem.problem.status >= 500);
  const other = kindOf(problem) === "idempotency-key-reused" && /\/sagas\/([^\s,]+)/.exec((problem as ProblemError).message)?.[1];
  return (
    <>
      <Failure problem={problem} again={uncertain ? again : undefined} />
      {uncertain && <p>It may have been started. To try again with the same key does no harm: it starts the same saga, once.</p>}
      {other && (
        <div>
          <p>
            This form, as it was before you changed it, <a href={to(["sagas", other])}>has been started</a>.
          </p>
          <button type="button" onClick={renew}>
            Start what it is now as one more
          </button>
        </div>
      )}
    </>
  );
}

/** The header's value: `hotel=reject, flight.undo=error:2`. */
function chaosOf(faults: Draft["faults"]): string {
  return Object.entries(faults)
    .filter(([, { fault }]) => fault)
    .map(([target, { fault, times }]) => `${target}=${fault}${times && `:${times}`}`)
    .join(", ");
}

const kindOf = (problem: unknown): string => (problem instanceof ProblemError ? problem.kind : "");

/** A request with a business key of its own: the first text that must be given. */
function another(request: unknown, form: SagaForm, of: Deployment): unknown {
  const { properties = {}, required = [] } = of.schema(form.request);
  const name = Object.keys(properties).find((one) => required.includes(one) && of.schema(properties[one]!).type === "string");
  if (!isObject(request) || !name) return request;
  const one = `-${crypto.randomUUID().slice(0, 8)}`;
  const before = String(request[name] ?? form.name).replace(/-[0-9a-f]{8}$/, "");
  return { ...request, [name]: `${before.slice(0, (of.schema(properties[name]!).maxLength ?? 128) - one.length)}${one}` };
}

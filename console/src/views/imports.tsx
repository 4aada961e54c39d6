/** Imports: a file of rows, each of which starts a saga; how far each is, and beginning one. */
import type { TargetedSubmitEvent } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { api, must, ProblemError, UnreachableError, type Saga, type Schemas } from "../api/client";
import { deployment, type Deployment } from "../api/deployment";
import { may } from "../api/session";
import { Act } from "../parts/act";
import { size, useEvery } from "../parts/clock";
import { notify } from "../parts/notices";
import { usePages } from "../parts/pages";
import { useResource } from "../parts/resource";
import { Id, Moment, Status } from "../parts/show";
import { useEvents } from "../parts/soon";
import { Empty, Failure, Loading } from "../parts/states";
import { Upload, type Progress } from "../parts/upload";
import { go, to } from "../route";

type Import = Schemas["Import"];
type Coordination = Saga["coordination"];

/** While one runs it is asked for again after so many milliseconds; the list, where none does. */
const BUSY = 2_000;
const IDLE = 15_000;
const COORDINATIONS = ["orchestration", "choreography"] satisfies Coordination[];
/** What can be imported, by the file's name. */
const ACCEPTED = ".csv,.jsonl,.ndjson";

const runs = ({ status }: Import): boolean => status === "CHECKING" || status === "STARTING";
const mayBegin = (): boolean => may("sagas:write") && may("valet:issue");

export function Imports({ parts: [id] }: { parts: string[] }) {
  return id ? <One key={id} id={id} /> : <List />;
}

function List() {
  const { items, problem, more, next, reload, refresh } = usePages("imports", (cursor) =>
    must(api().GET("/imports", { params: { query: cursor ? { cursor } : {} } })),
  );
  useEvery(items?.some(runs) ? BUSY : IDLE, refresh);
  return (
    <>
      <h1>Imports</h1>
      {mayBegin() ? (
        <Begin />
      ) : (
        <p class="hint">To begin one takes the scopes sagas:write and valet:issue.</p>
      )}
      {problem !== undefined && <Failure problem={problem} again={() => void reload()} />}
      {!items ? (
        problem === undefined && <Loading what="Imports" />
      ) : items.length === 0 ? (
        <Empty>You have begun no import yet.</Empty>
      ) : (
        <div class="scroll">
          <table class="listed" aria-label="Imports">
            <thead>
              <tr>
                {["File", "Saga", "Status", "Rows", "Started", "Already there", "Bad", "Not started", "Begun"].map((name) => (
                  <th scope="col" key={name}>
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {items.map((one) => (
                <tr key={one.import_id}>
                  <td>
                    <a href={to(["imports", one.import_id])}>{one.object}</a>
                  </td>
                  <td>{one.saga}</td>
                  <td>
                    <Status status={one.status} />
                  </td>
                  <td>{one.rows?.toLocaleString() ?? "…"}</td>
                  <td>{one.started.toLocaleString()}</td>
                  <td>{one.already_there.toLocaleString()}</td>
                  <td>{one.bad.toLocaleString()}</td>
                  <td>{one.not_started.toLocaleString()}</td>
                  <td>
                    <Moment at={one.created_at} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {more && (
        <button type="button" onClick={() => void next()}>
          More
        </button>
      )}
    </>
  );
}

function One({ id }: { id: string }) {
  const { data, problem, reload } = useResource(id, (signal) =>
    must(api().GET("/imports/{import_id}", { params: { path: { import_id: id } }, signal })),
  );
  const again = () => void (data && runs(data) && reload());
  useEvery(BUSY, again);
  useEvents(again);
  const none = problem instanceof ProblemError && problem.problem.status === 404;
  return (
    <>
      <h1>
        <a href={to(["imports"])}>Imports</a> / {data?.object ?? id}
      </h1>
      {none && <Empty>There is no such import, or it is somebody else's.</Empty>}
      {problem !== undefined && !none && <Failure problem={problem} again={reload} />}
      {!data && problem === undefined && <Loading what="The import" />}
      {data && (
        <>
          <section class="card" aria-label="How far it is">
            <p>
              <Status status={data.status} /> {MEANS[data.status]}
              {data.why && ` ${data.why}`}
            </p>
            <Rows of={data} />
            <div class="buttons">
              {data.links["resume"] && may("sagas:write") && <Resume of={data} reload={reload} />}
              {data.links["result"] && (
                <a class="button" href={data.links["result"]} target="_blank" rel="noreferrer">
                  What became of each row (JSON Lines)
                </a>
              )}
              <a class="button" href={to(["sagas"], { saga: data.saga })}>
                Sagas of {data.saga}
              </a>
            </div>
          </section>
          <dl class="facts">
            <dt>Import</dt>
            <dd>
              <Id id={data.import_id} />
            </dd>
            <dt>Saga</dt>
            <dd>
              {data.saga}, {data.coordination ?? "coordinated as it is declared"}
            </dd>
            <dt>Stops</dt>
            <dd>{data.tolerated_failures === 100 ? "never, however many rows fail" : `where more than ${data.tolerated_failures} % of the rows fail`}</dd>
            <dt>Concurrency</dt>
            <dd>{data.concurrency}</dd>
            <dt>Begun</dt>
            <dd>
              <Moment at={data.created_at} />
            </dd>
            {data.ended_at && (
              <>
                <dt>Ended</dt>
                <dd>
                  <Moment at={data.ended_at} />
                </dd>
              </>
            )}
            <dt>SHA-256</dt>
            <dd>
              <code>{data.sha256}</code>
            </dd>
          </dl>
          <Problems of={data} />
        </>
      )}
    </>
  );
}

const MEANS: Record<Import["status"], string> = {
  CHECKING: "The file is being read.",
  STARTING: "Its sagas are being started.",
  COMPLETED: "All of its rows were tried.",
  STOPPED: "More rows failed than are tolerated; what was started stays started.",
  INTERRUPTED: "What ran it has died; it can be resumed.",
  FAILED: "Nothing of the file can be imported.",
};

/** How many of the rows are what. */
function Rows({ of }: { of: Import }) {
  const parts = (["started", "already_there", "bad", "not_started"] as const).map((name) => [name, of[name]] as const);
  const done = parts.reduce((sum, [, count]) => sum + count, 0);
  if (of.rows === null) return runs(of) ? <progress aria-label="Rows" /> : null;
  const left = Math.max(0, of.rows - done);
  return (
    <>
      <div
        class="bar"
        role="progressbar"
        aria-label="Rows"
        aria-valuemin={0}
        aria-valuemax={of.rows}
        aria-valuenow={Math.min(done, of.rows)}
        aria-valuetext={`${done.toLocaleString()} of ${of.rows.toLocaleString()} rows`}
      >
        {parts.map(([name, count]) => count > 0 && <span key={name} class={name} style={{ flexGrow: count }} />)}
        {left > 0 && <span style={{ flexGrow: left }} />}
      </div>
      <p class="legend">
        <span>
          <strong>{of.rows.toLocaleString()}</strong> rows:
        </span>
        {parts.map(([name, count]) => (
          <span key={name} class={`key ${name}`}>
            <strong>{count.toLocaleString()}</strong> {name.replace("_", " ")}
          </span>
        ))}
        {left > 0 && (
          <span class="key">
            <strong>{left.toLocaleString()}</strong> {runs(of) ? "to go" : "not reached"}
          </span>
        )}
      </p>
    </>
  );
}

function Problems({ of: { problems, bad } }: { of: Import }) {
  if (problems.length === 0) return null;
  return (
    <section aria-label="Bad rows">
      <h2>Bad rows</h2>
      {bad > problems.length && <p class="hint">The first {problems.length} of {bad.toLocaleString()}; all of them are in the file of what became of each row.</p>}
      <div class="scroll">
        <table class="listed">
          <thead>
            <tr>
              <th scope="col">Line</th>
              <th scope="col">Field</th>
              <th scope="col">Why</th>
            </tr>
          </thead>
          <tbody>
            {problems.map(({ line, field, why }) => (
              <tr key={`${line} ${field}`}>
                <td>{line}</td>
                <td>
                  <code>{field}</code>
                </td>
                <td>{why}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Resume({ of, reload }: { of: Import; reload: () => void }) {
  const [percent, setPercent] = useState(String(of.tolerated_failures));
  const act = async () => {
    const body = { tolerated_failures: Number(percent) };
    try {
      await must(api().POST("/imports/{import_id}/resume", { params: { path: { import_id: of.import_id } }, body }));
      notify("It goes on.");
    } catch (problem) {
      if (isUncertain(problem)) throw new Error("No answer came: it may go on. Look at what it is now, and then try again.");
      throw problem;
    } finally {
      reload();
    }
  };
  return (
    <Act title="Resume" act={act}>
      <p>What was not started is tried again; nothing is started twice.</p>
      <label>
        Tolerated failures, in percent of the rows
        <input type="number" min={0} max={100} required value={percent} onInput={({ currentTarget: { value } }) => setPercent(value)} />
      </label>
    </Act>
  );
}

/** Choose a file, upload it by a valet key, and begin its import. */
function Begin() {
  const { data, problem, reload } = useResource("deployment", deployment);
  if (problem !== undefined) return <Failure problem={problem} again={reload} />;
  return (
    <details class="card">
      <summary>Begin an import</summary>
      {data ? <Form of={data} /> : <Loading what="What can be started" />}
    </details>
  );
}

function Form({ of }: { of: Deployment }) {
  const [file, setFile] = useState<File | null>(null);
  const [object, setObject] = useState("");
  const [saga, setSaga] = useState("");
  const [coordination, setCoordination] = useState<Coordination | "">("");
  const [tolerated, setTolerated] = useState("100");
  const [concurrency, setConcurrency] = useState("4");
  const [progress, setProgress] = useState<Progress | null>(null);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>();
  /** The same for each try of this form: an import is begun once. */
  const [key, setKey] = useState(() => crypto.randomUUID() as string);
  const stop = useRef<AbortController | null>(null);
  const sent = useRef<{ file: File; object: string; upload: Upload; done: boolean } | null>(null);
  useEffect(() => () => stop.current?.abort(), []);
  const bounds = of.schema({ $ref: "#/components/schemas/NewImport" }).properties ?? {};

  const uploaded = async (chosen: File, signal: AbortSignal) => {
    // A try after a failure goes on with the same upload; what is there is not sent again.
    if (sent.current?.file !== chosen || sent.current.object !== object) {
      sent.current = { file: chosen, object, upload: new Upload(chosen, { object, onProgress: setProgress }), done: false };
    }
    if (sent.current.done) return;
    await sent.current.upload.run(signal);
    sent.current.done = true;
  };
  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    if (stop.current || !file) return;
    const stopping = (stop.current = new AbortController());
    setBusy(true);
    setProblem(undefined);
    try {
      await uploaded(file, stopping.signal);
      setProgress(null);
      const begun = await must(
        api().POST("/imports", {
          params: { header: { "Idempotency-Key": key } },
          body: {
            saga: saga as Import["saga"],
            object,
            coordination: coordination || null,
            tolerated_failures: Number(tolerated),
            concurrency: Number(concurrency),
          },
        }),
      );
      setKey(crypto.randomUUID());
      if (!stopping.signal.aborted) go(to(["imports", begun.import_id]));
    } catch (caught) {
      if (stopping.signal.aborted && caught === stopping.signal.reason) notify("The upload was stopped: nothing of it stays.");
      else setProblem(caught);
    } finally {
      stop.current = null;
      setProgress(null);
      setBusy(false);
    }
  };
  const other = problem instanceof ProblemError && problem.kind === "idempotency-key-reused" && /\/imports\/([0-9a-f]+)/.exec(problem.message)?.[1];
  return (
    <form class="schema" aria-label="Begin an import" onSubmit={(event) => void submit(event)}>
      <div class="fields">
        <div class="field">
          <label for="file">File</label>
          <input
            id="file"
            type="file"
            required
            accept={ACCEPTED}
            disabled={busy}
            aria-describedby="file-hint"
            onChange={({ currentTarget: { files } }) => {
              setFile(files?.[0] ?? null);
              setObject(files?.[0]?.name ?? "");
            }}
          />
          <span class="hint" id="file-hint">
            {file ? size(file.size) : "CSV, its first line naming fields such as flight.id; or JSON Lines, a request in each"}
          </span>
        </div>
        <div class="field">
          <label for="object">Upload it as</label>
          <input id="object" required disabled={busy} value={object} onInput={({ currentTarget: { value } }) => setObject(value)} />
        </div>
        <div class="field">
          <label for="saga">Saga of each row</label>
          <select id="saga" required disabled={busy} value={saga} onChange={({ currentTarget: { value } }) => setSaga(value)}>
            <option value="">choose</option>
            {of.sagas.map(({ name }) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </div>
        <div class="field">
          <label for="how">Coordination</label>
          <select id="how" disabled={busy} value={coordination} onChange={({ currentTarget: { value } }) => setCoordination(value as Coordination | "")}>
            <option value="">as it is declared</option>
            {COORDINATIONS.map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </div>
        <div class="field">
          <label for="tolerated">Tolerated failures</label>
          <input
            id="tolerated"
            type="number"
            required
            disabled={busy}
            min={bounds["tolerated_failures"]?.minimum}
            max={bounds["tolerated_failures"]?.maximum}
            value={tolerated}
            aria-describedby="tolerated-hint"
            onInput={({ currentTarget: { value } }) => setTolerated(value)}
          />
          <span class="hint" id="tolerated-hint">
            in percent of the rows; with 100 it never stops
          </span>
        </div>
        <div class="field">
          <label for="concurrency">Concurrency</label>
          <input
            id="concurrency"
            type="number"
            required
            disabled={busy}
            min={bounds["concurrency"]?.minimum}
            max={bounds["concurrency"]?.maximum}
            value={concurrency}
            aria-describedby="concurrency-hint"
            onInput={({ currentTarget: { value } }) => setConcurrency(value)}
          />
          <span class="hint" id="concurrency-hint">
            batches of at most 45 sagas at the same time
          </span>
        </div>
      </div>
      {problem !== undefined && <Failure problem={problem} />}
      {isUncertain(problem) && sent.current?.done && <p>It may have begun. To try again does no harm: it is the same import.</p>}
      {other && (
        <p>
          This form, as it was before you changed it, <a href={to(["imports", other])}>has begun an import</a>.{" "}
          <button type="button" onClick={() => (setKey(crypto.randomUUID()), setProblem(undefined))}>
            Begin what it is now as one more
          </button>
        </p>
      )}
      {progress && (
        <label class="sending">
          {SAID[progress.phase]} {progress.retrying && `(again: ${progress.retrying})`}
          <progress max={progress.total || 1} value={progress.done} />
        </label>
      )}
      <div class="buttons">
        <button type="submit" class="first" disabled={busy}>
          {busy ? "…" : "Upload and begin"}
        </button>
        {progress && (
          <button type="button" onClick={() => stop.current?.abort()}>
            Stop
          </button>
        )}
      </div>
    </form>
  );
}

const SAID: Record<Progress["phase"], string> = { reading: "Reading the file", sending: "Uploading it", checking: "Checking it" };

const isUncertain = (problem: unknown): boolean => problem instanceof UnreachableError || (problem instanceof ProblemError && problem.problem.status >= 500);

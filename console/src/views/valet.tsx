/** Valet keys: documents sent up by them, links lent by them, and what was done with each. */
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { api, must, ProblemError, UnreachableError, type Schemas } from "../api/client";
import { Act } from "../parts/act";
import { size, useEvery, useNow } from "../parts/clock";
import { notify } from "../parts/notices";
import { Once } from "../parts/once";
import { usePages } from "../parts/pages";
import { duration, Id, Moment, Status } from "../parts/show";
import { Empty, Failure, Loading } from "../parts/states";
import { Table } from "../parts/table";
import { redeem, StorageError, typeOf, Upload, type Progress, type Uploaded } from "../parts/upload";
import { to } from "../route";

type Key = Schemas["ShownKey"];
type Issued = Schemas["IssuedKey"];
const REFRESH = 5_000;
const OCTETS = "application/octet-stream";

export function ValetKeys({ parts }: { parts: string[] }) {
  if (parts[0]) return <OneKey key={parts[0]} id={parts[0]} />;
  return <Keys />;
}

function Keys() {
  const keys = usePages("keys", (cursor) =>
    must(api().GET("/valet-keys", { params: { query: { limit: 20, ...(cursor ? { cursor } : {}) } } })),
  );
  useEvery(REFRESH, keys.refresh);
  const [lent, setLent] = useState<Issued | null>(null);
  return (
    <>
      <h1>Valet keys</h1>
      <p class="hint">
        A valet key lets a person without an account upload one document, or download one, for a limited time. It can be revoked.
      </p>
      <Sending changed={() => void keys.reload()} />
      <Lending
        objects={[
          ...new Set(
            (keys.items ?? [])
              .filter(({ operation, status }) => operation === "upload" && status === "COMPLETED")
              .map(({ object }) => object),
          ),
        ]}
        done={(issued) => {
          held.value = { ...held.value, [issued.key_id]: issued.token };
          setLent(issued);
          void keys.reload();
        }}
        unsure={() => void keys.reload()}
      />
      {lent && <Lent key={lent.key_id} issued={lent} close={() => setLent(null)} />}
      <h2>Your keys</h2>
      {keys.problem !== undefined && <Failure problem={keys.problem} again={() => void keys.reload()} />}
      {!keys.items ? (
        keys.problem === undefined && <Loading what="Valet keys" />
      ) : keys.items.length === 0 ? (
        <Empty>
          <p>There is no valet key yet: upload a file, or issue a link.</p>
        </Empty>
      ) : (
        <Table label="Valet keys" head={["Object", "For", "Status", "Uses", "Expires", "Issued"]}>
          {keys.items.map((key) => (
            <tr key={key.key_id}>
              <td>
                <a href={to(["valet-keys", key.key_id])}>{key.object}</a>
              </td>
              <td>{key.operation}</td>
              <td>
                <Status status={key.status} />
              </td>
              <td>{uses(key)}</td>
              <td>
                <Expiry of={key} />
              </td>
              <td>
                <Moment at={key.created_at} />
              </td>
            </tr>
          ))}
        </Table>
      )}
      {keys.more && (
        <button type="button" onClick={() => void keys.next()}>
          Older keys
        </button>
      )}
    </>
  );
}

const uses = (key: Key): string =>
  key.multipart ? `${key.parts_redeemed} for ${key.multipart.parts} parts` : `${key.uses} of ${key.max_uses}`;

function Expiry({ of: key }: { of: Key }) {
  const left = Date.parse(key.expires_at) - useNow();
  if (key.status !== "ACTIVE" && key.status !== "USED_UP") return <Moment at={key.expires_at} />;
  return (
    <time dateTime={key.expires_at} title={key.expires_at}>
      {left > 0 ? `in ${duration(left)}` : "now"}
    </time>
  );
}

// What is sent up. It goes on while another view is looked at.

interface Sent {
  id: number;
  file: File;
  object: string;
  type: string;
  state: "chosen" | "sending" | "failed" | "stopped" | "done";
  upload?: Upload;
  stop?: AbortController;
  began?: number | undefined;
  progress?: Progress;
  problem?: unknown;
  done?: Uploaded;
}

const sent = signal<Sent[]>([]);
let last = 0;

function change(id: number, what: Partial<Sent>): void {
  sent.value = sent.value.map((one) => (one.id === id ? { ...one, ...what } : one));
}

function choose(files: Iterable<File>): void {
  const chosen = [...files].map((file): Sent => ({
    id: (last += 1),
    file,
    object: file.name,
    type: typeOf(file),
    state: "chosen",
  }));
  sent.value = [...chosen, ...sent.value];
}

async function send(one: Sent): Promise<void> {
  const stop = new AbortController();
  const contentType = one.type === typeOf(one.file) ? undefined : one.type;
  let began: number | undefined;
  const onProgress = (progress: Progress) => {
    if (progress.phase === "sending") began ??= Date.now();
    change(one.id, { progress, began });
  };
  const upload = one.upload ?? new Upload(one.file, { object: one.object, contentType, onProgress });
  change(one.id, { state: "sending", stop, upload, problem: undefined });
  try {
    change(one.id, { state: "done", done: await upload.run(stop.signal) });
    notify(`${one.object} is uploaded.`);
  } catch (problem) {
    if (stop.signal.aborted && problem instanceof DOMException) change(one.id, { state: "stopped" });
    else change(one.id, { state: "failed", problem });
  }
}

addEventListener("beforeunload", (event) => {
  if (sent.value.some(({ state }) => state === "sending")) event.preventDefault();
});

function Sending({ changed }: { changed: () => void }) {
  const [over, setOver] = useState(false);
  const states = sent.value.map(({ state }) => state).join();
  useEffect(changed, [states]);
  return (
    <section aria-labelledby="send">
      <h2 id="send">Upload files</h2>
      <div
        class={over ? "drop over" : "drop"}
        onDragOver={(event) => (event.preventDefault(), setOver(true))}
        onDragLeave={() => setOver(false)}
        onDrop={(event) => {
          event.preventDefault();
          setOver(false);
          choose(event.dataTransfer?.files ?? []);
        }}
      >
        <label>
          Drag files here, or choose them
          <input
            type="file"
            multiple
            onChange={(event) => {
              choose(event.currentTarget.files ?? []);
              event.currentTarget.value = "";
            }}
          />
        </label>
      </div>
      {sent.value.length > 0 && (
        <ul class="uploads" aria-label="Uploads">
          {sent.value.map((one) => (
            <li key={one.id} class="card">
              {one.state === "chosen" ? <Chosen one={one} /> : <Going one={one} />}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

const forget = (one: Sent) => (sent.value = sent.value.filter(({ id }) => id !== one.id));

function Chosen({ one }: { one: Sent }) {
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void send(one);
      }}
    >
      <div class="filters">
        <label>
          Name in your space
          <input
            required
            maxLength={700}
            value={one.object}
            onInput={(event) => change(one.id, { object: event.currentTarget.value })}
          />
        </label>
        <label>
          Content type
          <input
            required
            minLength={3}
            maxLength={200}
            value={one.type}
            onInput={(event) => change(one.id, { type: event.currentTarget.value })}
          />
        </label>
        <button type="submit" class="first">
          Upload {size(one.file.size)}
        </button>
        <button type="button" class="quiet" onClick={() => forget(one)}>
          Leave it
        </button>
      </div>
    </form>
  );
}

const PHASES = { reading: "reading the file for its hash", sending: "sending", checking: "being checked" };

function Going({ one }: { one: Sent }) {
  const { progress, state } = one;
  const label = useId();
  const seconds = one.began ? (Date.now() - one.began) / 1000 : 0;
  return (
    <>
      <strong id={label}>{one.object}</strong>{" "}
      <span class="hint">
        {size(one.file.size)}, {one.type}
      </span>
      {state === "sending" && (
        <>
          <progress
            aria-labelledby={label}
            max={progress?.total || 1}
            {...(progress && progress.phase !== "checking" ? { value: progress.done } : {})}
          />
          <p class="hint" role="status">
            {progress && PHASES[progress.phase]}
            {progress?.phase !== "checking" && progress && `: ${size(progress.done)} of ${size(progress.total)}`}
            {progress?.phase === "sending" && seconds > 1 && `, ${size(progress.done / seconds)} a second`}
            {progress?.retrying && `. Trying again: ${progress.retrying}`}
          </p>
          {progress?.phase !== "checking" && (
            <button type="button" onClick={() => one.stop?.abort()}>
              Cancel
            </button>
          )}
        </>
      )}
      {state === "stopped" && <p>Cancelled. Its key is revoked: nothing of it can be downloaded.</p>}
      {state === "failed" && (
        <>
          <Failure problem={one.problem} />
          <p>{after(one.problem)}</p>
        </>
      )}
      {state === "done" && one.done && (
        <p>
          Uploaded, and checked: <a href={to(["valet-keys", one.done.key_id])}>its key</a>. SHA-256 <Id id={one.done.sha256} />
        </p>
      )}
      {state !== "sending" && (
        <div class="buttons">
          {state === "failed" && (
            <button type="button" class="first" onClick={() => void send(one)}>
              {isInterrupted(one.problem) ? "Go on" : "Try again"}
            </button>
          )}
          {state === "failed" &&
            one.type !== OCTETS &&
            one.problem instanceof ProblemError &&
            one.problem.kind === "wrong-content" && (
              <button type="button" onClick={() => void sendAsOctets(one)}>
                Upload as {OCTETS}
              </button>
            )}
          {state === "stopped" && (
            <button type="button" onClick={() => void send(one)}>
              Upload again
            </button>
          )}
          {state === "done" && one.done && <Download object={one.done.object} />}
          <button type="button" class="quiet" onClick={() => forget(one)}>
            Take off this list
          </button>
        </div>
      )}
    </>
  );
}

function sendAsOctets({ upload: _, ...one }: Sent): Promise<void> {
  const again: Sent = { ...one, type: OCTETS };
  sent.value = sent.value.map((other) => (other.id === one.id ? again : other));
  return send(again);
}

const isInterrupted = (problem: unknown) => problem instanceof StorageError || problem instanceof UnreachableError;

/** What a failure leaves behind. */
function after(problem: unknown): string {
  if (isInterrupted(problem)) return "What S3 has stored stays: go on, and the rest is sent.";
  if (!(problem instanceof ProblemError)) return "";
  const { kind } = problem;
  if (["wrong-content", "wrong-hash", "wrong-length"].includes(kind)) return "It is in quarantine: nobody can download it.";
  if (kind === "key-revoked")
    return "Its key was revoked on the way: nothing of it can be downloaded. Trying again issues another key.";
  if (kind === "key-expired" || kind === "key-used-up") return "Trying again issues another key.";
  return "";
}

// A link that is lent.

/** The tokens that this page was told; they are nowhere else, and gone with it. */
const held = signal<Record<string, string>>({});
const LIVES: [number, string][] = [
  [60, "1 minute"],
  [900, "15 minutes"],
  [3600, "1 hour"],
  [86_400, "1 day"],
  [604_800, "7 days"],
];

function Lending({ objects, done, unsure }: { objects: string[]; done: (issued: Issued) => void; unsure: () => void }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>();
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    if (busy) return;
    const given = new FormData(event.currentTarget as HTMLFormElement);
    setBusy(true);
    setProblem(undefined);
    try {
      const body = {
        operation: "download" as const,
        object: String(given.get("object")),
        expires_in: Number(given.get("expires_in")),
        max_uses: Number(given.get("max_uses")),
        upload: null,
      };
      done(await must(api().POST("/valet-keys", { body })));
    } catch (caught) {
      setProblem(
        caught instanceof UnreachableError
          ? new Error("No answer came: a key may have been issued. If it is among your keys, revoke it: its token is lost.")
          : caught,
      );
      unsure();
    } finally {
      setBusy(false);
    }
  };
  return (
    <section aria-labelledby="lend">
      <h2 id="lend">Lend a document</h2>
      <form class="filters" onSubmit={submit}>
        <label>
          Object
          <input name="object" required maxLength={1000} placeholder="passports/asha.pdf" list="objects" autocomplete="off" />
        </label>
        <datalist id="objects">
          {objects.map((object) => (
            <option key={object} value={object} />
          ))}
        </datalist>
        <label>
          Expires in
          <select name="expires_in" defaultValue="900">
            {LIVES.map(([seconds, words]) => (
              <option key={seconds} value={seconds} selected={seconds === 900}>
                {words}
              </option>
            ))}
          </select>
        </label>
        <label>
          Uses
          <input name="max_uses" type="number" required min={1} max={10_000} defaultValue="10" />
        </label>
        <button type="submit" disabled={busy}>
          Issue a download key
        </button>
      </form>
      {problem !== undefined && <Failure problem={problem} />}
    </section>
  );
}

function Lent({ issued, close }: { issued: Issued; close: () => void }) {
  return (
    <section class="card" aria-label="The key that was issued">
      <p>
        <strong>Copy it now:</strong> it is shown only once. Whoever has it can download <code>{issued.object}</code> until{" "}
        <Moment at={issued.expires_at} />.
      </p>
      <Once label="Link" value={issued.link} />
      <Once label="Token" value={issued.token} />
      <Trying token={issued.token} />
      <div class="buttons">
        <a href={to(["valet-keys", issued.key_id])}>Its uses, and revoking it</a>
        <button type="button" class="quiet" onClick={close}>
          Done
        </button>
      </div>
    </section>
  );
}

interface Try {
  at: string;
  until?: string;
  problem?: unknown;
}

/** Do with a token what its holder would, who is not signed in: see it work, and see it refused. */
function Trying({ token, tried }: { token: string; tried?: () => void }) {
  const [tries, setTries] = useState<Try[]>([]);
  const [busy, setBusy] = useState(false);
  const now = useNow(250);
  const attempt = async (use: (url: string) => void) => {
    if (busy) return;
    setBusy(true);
    const found: Try = { at: new Date().toISOString() };
    try {
      const signed = await redeem(token);
      found.until = signed.expires_at;
      use(signed.url);
    } catch (problem) {
      found.problem = problem;
    } finally {
      setTries((before) => [found, ...before].slice(0, 20));
      setBusy(false);
      tried?.();
    }
  };
  return (
    <div>
      <div class="buttons">
        <button type="button" disabled={busy} onClick={() => void attempt(() => undefined)}>
          Try the link
        </button>
        <button type="button" disabled={busy} onClick={() => void attempt(follow)}>
          Download by it
        </button>
        <span class="hint">Each is one of its uses.</span>
      </div>
      <ol class="tries" aria-label="Tries" aria-live="polite">
        {tries.map((one, at) => (
          <li key={tries.length - at}>
            <Moment at={one.at} />{" "}
            {one.until ? (
              <>
                <Answer good>200</Answer> a URL of S3,{" "}
                <span aria-live="off">
                  {Date.parse(one.until) > now
                    ? `valid for ${Math.ceil((Date.parse(one.until) - now) / 1000)} s more`
                    : "which has run out"}
                </span>
              </>
            ) : one.problem instanceof ProblemError ? (
              <>
                <Answer>
                  {one.problem.problem.status} {one.problem.kind}
                </Answer>{" "}
                {one.problem.message}
              </>
            ) : (
              <>
                <Answer>no answer</Answer> {String((one.problem as Error).message)}
              </>
            )}
          </li>
        ))}
      </ol>
    </div>
  );
}

function Answer({ good = false, children }: { good?: boolean; children: ComponentChildren }) {
  return <strong class={good ? "status delivered" : "status failed"}>{children}</strong>;
}

/** Follow a URL of S3 that is sent as an attachment: the page stays. */
function follow(url: string): void {
  const link = document.createElement("a");
  link.href = url;
  link.rel = "noreferrer";
  link.click();
}

/** Download a document of one's own: by a key for one use. */
function Download({ object }: { object: string }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>();
  const fetched = async () => {
    setBusy(true);
    setProblem(undefined);
    try {
      const body = { operation: "download" as const, object, expires_in: 60, max_uses: 1, upload: null };
      const issued = await must(api().POST("/valet-keys", { body }));
      follow((await redeem(issued.token)).url);
    } catch (caught) {
      setProblem(caught);
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <button type="button" disabled={busy} onClick={() => void fetched()}>
        Download
      </button>
      {problem !== undefined && <Failure problem={problem} />}
    </>
  );
}

// One key.

function OneKey({ id }: { id: string }) {
  const trail = usePages(id, async (cursor) => {
    const found = await must(
      api().GET("/valet-keys/{key_id}", { params: { path: { key_id: id }, query: { limit: 50, ...(cursor ? { cursor } : {}) } } }),
    );
    return { ...found, items: found.audit };
  });
  useEvery(REFRESH, trail.refresh);
  const key = trail.first;
  const failure = trail.problem !== undefined && <Failure problem={trail.problem} again={() => void trail.reload()} />;
  const back = (
    <p>
      <a href={to(["valet-keys"])}>Valet keys</a>
    </p>
  );
  if (!key)
    return (
      <>
        {back}
        <h1>A valet key</h1>
        {failure || <Loading what="The key" />}
      </>
    );
  return (
    <>
      {back}
      <h1>
        {key.operation === "upload" ? "Upload" : "Download"} of {key.object}
      </h1>
      {failure}
      <dl class="facts">
        <dt>Status</dt>
        <dd>
          <Status status={key.status} />
        </dd>
        <dt>Key</dt>
        <dd>
          <Id id={key.key_id} />
        </dd>
        <dt>Uses</dt>
        <dd>{uses(key)}</dd>
        <dt>Issued</dt>
        <dd>
          <Moment at={key.created_at} />
        </dd>
        <dt>Expires</dt>
        <dd>
          <Expiry of={key} />
        </dd>
        {key.revoked_at && (
          <>
            <dt>Revoked</dt>
            <dd>
              <Moment at={key.revoked_at} />
            </dd>
          </>
        )}
        {Object.entries({ ...key.upload, ...key.outcome } as Record<string, unknown>)
          .filter(([name]) => !["key_id", "object"].includes(name))
          .map(([name, value]) => (
            <>
              <dt key={name}>{name.replaceAll("_", " ")}</dt>
              <dd>{name === "content_length" ? `${size(Number(value))}` : String(value)}</dd>
            </>
          ))}
      </dl>
      <div class="buttons">
        {key.status === "COMPLETED" && key.operation === "upload" && <Download object={key.object} />}
        <Revoking of={key} done={() => void trail.reload()} />
      </div>
      {key.operation === "download" && <Holding id={id} tried={() => void trail.reload()} />}
      <h2>What was done with it</h2>
      <Table label="Audit trail" head={["Time", "Action", "Outcome", "By", "From", "Detail"]}>
        {(trail.items ?? []).map((row, at) => (
          <tr key={at}>
            <td>
              <Moment at={row.time} />
            </td>
            <td>{row.action}</td>
            <td>
              <Answer good={row.outcome === "allowed"}>{row.outcome}</Answer>
              {(row.count ?? 1) > 1 && ` ${row.count} times`}
              {row.last_time && (row.count ?? 1) > 1 && (
                <>
                  , last <Moment at={row.last_time} />
                </>
              )}
            </td>
            <td>{row.caller}</td>
            <td>{row.address}</td>
            <td>{row.detail}</td>
          </tr>
        ))}
      </Table>
      {trail.more && (
        <button type="button" onClick={() => void trail.next()}>
          Older entries
        </button>
      )}
    </>
  );
}

function Revoking({ of: key, done }: { of: Key; done: () => void }) {
  const withdraw = useRef<HTMLInputElement>(null);
  const visible = key.operation === "download" || key.status === "COMPLETED";
  if (key.status === "REVOKED" && !visible) return null;
  const revoke = async (withdrawing: boolean) => {
    await must(
      api().DELETE("/valet-keys/{key_id}", {
        params: { path: { key_id: key.key_id }, query: { withdraw: withdrawing ? "true" : "false" } },
      }),
    );
    notify(withdrawing ? "Revoked, and the document is withdrawn." : "Revoked.");
    done();
  };
  return (
    <>
      {key.status !== "REVOKED" && (
        <Act title="Revoke" danger act={() => revoke(withdraw.current?.checked ?? false)}>
          <p>From now on the key opens nothing. A URL that it has opened is valid for ten seconds at most.</p>
          {visible && (
            <label class="inline">
              <input type="checkbox" ref={withdraw} />
              Withdraw the document too: no key opens it any more
            </label>
          )}
        </Act>
      )}
      {key.status === "REVOKED" && visible && (
        <Act title="Withdraw the document" danger act={() => revoke(true)}>
          <p>No key opens it any more, and every URL to it ends at once.</p>
        </Act>
      )}
    </>
  );
}

/** The token of a key, if this page has it or its holder gives it: to see what it does. */
function Holding({ id, tried }: { id: string; tried: () => void }) {
  const token = held.value[id];
  if (token) return <Trying token={token} tried={tried} />;
  return (
    <form
      class="filters"
      onSubmit={(event) => {
        event.preventDefault();
        const given = String(new FormData(event.currentTarget).get("token") ?? "").trim();
        held.value = { ...held.value, [id]: decodeURIComponent(given.split("/v/").at(-1) ?? "") };
      }}
    >
      <label>
        Its link or token, to try it: it was shown only when it was issued
        <input name="token" required autocomplete="off" spellcheck={false} />
      </label>
      <button type="submit">Use it</button>
    </form>
  );
}

/** What is sent up by valet keys: it goes on while another view is looked at. */
import { signal } from "@preact/signals";
import { useEffect, useId, useState } from "preact/hooks";
import { ProblemError, UnreachableError } from "../../api/client";
import { size } from "../../parts/clock";
import { notify } from "../../parts/notices";
import { Id } from "../../parts/show";
import { Failure } from "../../parts/states";
import { StorageError, typeOf, Upload, type Progress, type Uploaded } from "../../parts/upload";
import { to } from "../../route";
import { Download } from "./download";

const OCTETS = "application/octet-stream";

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

export function Sending({ changed }: { changed: () => void }) {
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
  const kind = one.problem instanceof ProblemError ? one.problem.kind : "";
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
      {state === "stopped" && <p>Cancelled: what was sent can be downloaded by nobody.</p>}
      {state === "failed" && (
        <>
          {kind === "unknown-content-type" ? (
            <UnknownType type={one.type} problem={one.problem} />
          ) : (
            <Failure problem={one.problem} />
          )}
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
          {state === "failed" && !WRONG.includes(kind) && (
            <button type="button" class="first" onClick={() => void send(one)}>
              {isInterrupted(one.problem) ? "Go on" : "Try again"}
            </button>
          )}
          {state === "failed" && !isInterrupted(one.problem) && (
            <button type="button" onClick={() => again({ ...one, state: "chosen" })}>
              Change its name or type
            </button>
          )}
          {state === "failed" && one.type !== OCTETS && (kind === "wrong-content" || kind === "unknown-content-type") && (
            <button type="button" onClick={() => void send(again({ ...one, type: OCTETS }))}>
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

/** What of a request will be refused again as it is. */
const WRONG = ["bad-object-name", "unknown-content-type", "upload-too-large", "invalid"];

function UnknownType({ type, problem }: { type: string; problem: unknown }) {
  return (
    <div class="failure" role="alert">
      <strong>{type} is no type that can be proven by content</strong>
      <details>
        <summary>What can be</summary>
        <p>{(problem as Error).message}</p>
      </details>
    </div>
  );
}

/** A file that is begun with anew, under another name or type. */
function again({ upload: _, progress: __, problem: ___, ...one }: Sent): Sent {
  sent.value = sent.value.map((other) => (other.id === one.id ? one : other));
  return one;
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

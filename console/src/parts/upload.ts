/** A document is sent to S3 by a valet key: read once for its hash, sent, checked.
 *
 * Its memory does not grow with the document: it is read in pieces, and at most a few parts of 8 MiB
 * are held. A request that fails is sent again with a new URL; what has failed for good goes on where
 * it was by `run` again.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { config } from "../api/config";
import { api, must, problemOf, ProblemError, UnreachableError, type Schemas } from "../api/client";

export interface Progress {
  /** Read for its hash, sent to S3, or checked there. */
  phase: "reading" | "sending" | "checking";
  /** The bytes that this phase is done with. */
  done: number;
  total: number;
  /** What went wrong with a request that is tried again; null where nothing did. */
  retrying: string | null;
}

export interface Options {
  /** Its name in the caller's space. */
  object: string;
  /** Its content type; by default what its name says. */
  contentType?: string | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Ends it, and revokes its key: nothing of it stays. */
  signal?: AbortSignal | undefined;
}

/** What it was committed as. */
export type Uploaded = Schemas["Committed"];
type Key = Schemas["IssuedKey"];
interface Part {
  number: number;
  sha256: string;
  content_length: number;
}

const TRIES = 6;
/** How many parts are sent at the same time. */
const PARALLEL = 3;
/** For how many milliseconds a large document may be checked. */
const CHECK = 600_000;
/** After so many milliseconds without a sign of S3 a request is given up, and sent again. */
const SILENCE = 60_000;
const OCTETS = "application/octet-stream";
/** Types that browsers do not know, or say by the office suite that is installed. */
const TYPES: Record<string, string> = {
  csv: "text/csv",
  jsonl: "application/x-ndjson",
  md: "text/markdown",
  ndjson: "application/x-ndjson",
  parquet: "application/vnd.apache.parquet",
  toml: "application/toml",
  tsv: "text/tab-separated-values",
  yaml: "application/yaml",
  yml: "application/yaml",
};

/** S3 refused a request, or cannot be reached: with a new URL it may accept it. */
export class StorageError extends Error {}

/** Upload a file.
 *
 * @throws ProblemError where the API refused it, such as `wrong-content`: then it is in quarantine.
 * @throws StorageError, UnreachableError where S3 or the API cannot be reached for a while.
 * @throws DOMException `AbortError` where the signal ended it.
 */
export function upload(file: File, options: Options): Promise<Uploaded> {
  return new Upload(file, options).run(options.signal);
}

/** The content type that a file's name says. */
export function typeOf(file: File): string {
  const suffix = file.name.toLowerCase().split(".").at(-1) ?? "";
  return TYPES[suffix] ?? (file.type || OCTETS);
}

/** An upload that can go on after a failure: `run` again sends what S3 has not stored yet. */
export class Upload {
  private hash: string | undefined;
  private key: Key | undefined;
  private readonly stored = new Set<number>();
  /** The bytes of each part that is on its way. */
  private readonly sending = new Map<number, number>();
  private retrying: string | null = null;

  constructor(
    private readonly file: File,
    private readonly options: Options,
  ) {}

  /** @throws as `upload` */
  async run(signal: AbortSignal = new AbortController().signal): Promise<Uploaded> {
    this.retrying = null;
    this.sending.clear();
    try {
      this.hash ??= await this.read(signal);
      this.key ??= await this.issue(this.hash);
      await this.send(this.key, signal);
    } catch (problem) {
      if (signal.aborted) await this.revoke();
      else if (!isTransient(problem) || !this.key?.multipart) this.key = undefined; // its uses are used up, or it is over
      throw problem;
    }
    return this.complete(this.key.key_id);
  }

  private async read(signal: AbortSignal): Promise<string> {
    if (!this.file.size) throw new Error(`${this.file.name} is empty: there is nothing to upload.`);
    const hash = sha256.create();
    const reader = this.file.stream().getReader();
    let read = 0;
    try {
      for (;;) {
        const { done, value } = await this.readable(reader.read());
        signal.throwIfAborted();
        if (done) break;
        hash.update(value);
        read += value.length;
        this.say("reading", read);
      }
    } finally {
      await reader.cancel();
    }
    return hex(hash.digest());
  }

  private async issue(hash: string): Promise<Key> {
    const kind = this.options.contentType ?? typeOf(this.file);
    const asked = (content_type: string) => ({
      operation: "upload" as const,
      object: this.options.object,
      expires_in: 24 * 3600,
      max_uses: TRIES,
      upload: { content_type, content_length: this.file.size, sha256: hash },
    });
    this.stored.clear();
    try {
      return await must(api().POST("/valet-keys", { body: asked(kind) }));
    } catch (problem) {
      const unknown = problem instanceof ProblemError && problem.kind === "unknown-content-type";
      if (!unknown || this.options.contentType) throw problem;
      return must(api().POST("/valet-keys", { body: asked(OCTETS) }));
    }
  }

  private async send(key: Key, signal: AbortSignal): Promise<void> {
    this.say("sending", this.sent(key));
    if (!key.multipart) return this.stored.has(1) ? undefined : this.put(key, 1, this.file, undefined, signal);
    const { parts } = key.multipart;
    const wanted = Array.from({ length: parts }, (_, index) => index + 1).filter((number) => !this.stored.has(number));
    // One part that fails for good ends the others, which would only be refused as well.
    const failed = new AbortController();
    const either = AbortSignal.any([signal, failed.signal]);
    const work = async () => {
      for (let number = wanted.shift(); number !== undefined; number = wanted.shift()) await this.part(key, number, either);
    };
    const workers = Array.from({ length: Math.min(PARALLEL, wanted.length) }, () =>
      work().catch((problem: unknown) => {
        if (!either.aborted) failed.abort(problem);
      }),
    );
    await Promise.all(workers);
    either.throwIfAborted();
  }

  private async part(key: Key, number: number, signal: AbortSignal): Promise<void> {
    const size = key.multipart!.part_size;
    const piece = this.file.slice((number - 1) * size, number * size);
    const bytes = await this.readable(piece.arrayBuffer());
    const hash = hex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
    await this.put(key, number, new Blob([bytes]), { number, sha256: hash, content_length: bytes.byteLength }, signal);
  }

  /** Send a part, or the whole; again with a new URL where that fails. */
  private async put(key: Key, number: number, body: Blob, part: Part | undefined, signal: AbortSignal): Promise<void> {
    const report = (bytes: number) => {
      this.sending.set(number, bytes);
      this.say("sending", this.sent(key));
    };
    await this.persistently(signal, async () => {
      const signed = await redeem(key.token, part, signal);
      this.retrying = null;
      await put(signed, body, report, signal);
    });
    this.sending.delete(number);
    this.stored.add(number);
    this.say("sending", this.sent(key));
  }

  /** Have it checked and made visible: several calls where it is large. */
  private async complete(keyId: string): Promise<Uploaded> {
    this.say("checking", 0);
    const until = Date.now() + CHECK;
    const never = new AbortController().signal;
    try {
      return await this.persistently(
        never,
        () => must(api().POST("/valet-keys/{key_id}/complete", { params: { path: { key_id: keyId } } })),
        () => Date.now() < until,
      );
    } catch (problem) {
      if (problem instanceof ProblemError && !isTransient(problem)) this.key = undefined;
      throw problem;
    }
  }

  private async revoke(): Promise<void> {
    if (!this.key) return;
    const key_id = this.key.key_id;
    this.key = undefined;
    try {
      await must(api().DELETE("/valet-keys/{key_id}", { params: { path: { key_id } } }));
    } catch (problem) {
      throw new Error(`It was stopped, but its key ${key_id} could not be revoked: ${said(problem)}`);
    }
  }

  private async persistently<Done>(
    signal: AbortSignal,
    act: () => Promise<Done>,
    more = (tries: number) => tries < TRIES,
  ): Promise<Done> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await act();
      } catch (problem) {
        signal.throwIfAborted();
        if (!isTransient(problem) || !more(tries)) throw problem;
        this.retrying = said(problem);
        this.say();
        const asked = problem instanceof ProblemError ? problem.retryAfter * 1000 : 0;
        await pause(asked || Math.min(200 * 2 ** tries, 5000), signal);
      }
    }
  }

  private readable<Read>(reading: Promise<Read>): Promise<Read> {
    return reading.catch((problem: unknown) => {
      const why =
        problem instanceof DOMException && problem.name === "NotReadableError" ? "it was changed, or is gone" : said(problem);
      throw new Error(`${this.file.name} cannot be read: ${why}`);
    });
  }

  private sent(key: Key): number {
    const size = key.multipart?.part_size ?? this.file.size;
    let bytes = 0;
    for (const number of this.stored) bytes += Math.min(size, this.file.size - (number - 1) * size);
    for (const some of this.sending.values()) bytes += some;
    return bytes;
  }

  private last: Progress = { phase: "reading", done: 0, total: 0, retrying: null };
  private say(phase = this.last.phase, done = this.last.done): void {
    this.last = { phase, done, total: this.file.size, retrying: this.retrying };
    this.options.onProgress?.(this.last);
  }
}

/** Redeem a token as its holder does, who is not signed in: a request to S3 that is valid for ten seconds.
 *
 * @throws ProblemError such as `key-revoked`, `key-expired`, `key-used-up`.
 * @throws UnreachableError
 */
export async function redeem(token: string, part?: Part, signal?: AbortSignal): Promise<Schemas["SignedRequest"]> {
  let answer: Response;
  try {
    answer = await fetch(new URL(`${config().api}/valet-keys/redeem`, location.origin), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token, ...(part ? { part } : {}) }),
      credentials: "omit",
      ...(signal ? { signal } : {}),
    });
  } catch (problem) {
    if (signal?.aborted) throw problem;
    throw new UnreachableError();
  }
  const found: unknown = await answer.json().catch(() => undefined);
  if (!answer.ok) throw problemOf(answer, found);
  return found as Schemas["SignedRequest"];
}

/** Send a body to a signed URL, with exactly the headers that are signed. */
function put(signed: Schemas["SignedRequest"], body: Blob, report: (bytes: number) => void, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest(); // which says how far it is: fetch does not
    request.open(signed.method, signed.url);
    for (const [name, value] of Object.entries(signed.headers)) {
      if (name.toLowerCase() !== "content-length") request.setRequestHeader(name, value); // that is the browser's
    }
    const stop = () => request.abort();
    signal.addEventListener("abort", stop);
    let silent = setTimeout(stop, SILENCE);
    request.upload.onprogress = ({ loaded }) => {
      clearTimeout(silent);
      silent = setTimeout(stop, SILENCE);
      report(Math.min(loaded, body.size));
    };
    request.onloadend = () => {
      clearTimeout(silent);
      signal.removeEventListener("abort", stop);
      const { status } = request;
      // 412: an attempt before has stored it, and its answer was lost.
      if ((status >= 200 && status < 300) || status === 412) return resolve();
      report(0);
      if (signal.aborted) return reject(signal.reason as Error);
      if (!status) return reject(new StorageError("S3 cannot be reached, or does not let this page in."));
      const [code, why] = ["Code", "Message"].map((tag) => new RegExp(`<${tag}>([^<]*)`).exec(request.responseText)?.[1] ?? "");
      reject(new StorageError(`S3 refused it (${status}): ${[code, why].filter(Boolean).join(", ")}`));
    };
    request.send(body);
  });
}

/** Whether another attempt may succeed. S3 says 403 of a URL that has run out as of one that was never valid: redeeming again tells. */
function isTransient(problem: unknown): boolean {
  if (problem instanceof ProblemError) return problem.problem.status === 429 || problem.problem.status >= 500;
  return problem instanceof UnreachableError || problem instanceof StorageError;
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => (clearTimeout(timer), reject(signal.reason as Error));
    const timer = setTimeout(() => (signal.removeEventListener("abort", stop), resolve()), milliseconds);
    signal.addEventListener("abort", stop);
  });
}

const said = (problem: unknown): string => (problem instanceof Error ? problem.message : String(problem));
const hex = (bytes: Uint8Array): string => Array.from(bytes, (one) => one.toString(16).padStart(2, "0")).join("");

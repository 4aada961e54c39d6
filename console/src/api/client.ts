/** The API, by types that are generated from its description. */
import { signal } from "@preact/signals";
import createClient from "openapi-fetch";
import { config } from "./config";
import type { components, paths } from "./schema";
import { accessToken, distrust } from "./session";

export type Schemas = components["schemas"];
export type Saga = Schemas["Saga"];
export type Step = Saga["steps"][number];
export type Event = Schemas["Event"];
export type Problem = Omit<Schemas["Problem"], "type"> & { type: string };

/** Whether the last call reached the API. */
export const online = signal(true);

/** An answer that is a problem (RFC 9457). */
export class ProblemError extends Error {
  /** @param retryAfter The seconds after which the API wants to be asked again; 0 where it says none. */
  constructor(
    readonly problem: Problem,
    readonly retryAfter = 0,
  ) {
    super(problem.detail || problem.title);
  }
  /** The last part of the problem's type, such as `past-the-pivot`. */
  get kind(): string {
    return this.problem.type.split(":").at(-1) ?? "";
  }
}

/** No answer came: what was asked may have been done, or not. */
export class UnreachableError extends Error {
  constructor() {
    super("The API cannot be reached.");
  }
}

/** Sends a request with the caller's token.
 *
 * A GET is sent again, with growing delays, until the API answers: it changes nothing. Anything
 * else is sent once, for nobody knows what became of one without an answer.
 */
async function send(request: Request): Promise<Response> {
  if (request.method !== "GET") return sendOnce(request);
  for (let tries = 0; ; tries += 1) {
    let delay = Math.min(500 * 2 ** tries, 5000);
    try {
      const answer = await sendOnce(request);
      if (online.value && answer.status !== 429 && answer.status !== 503) return answer;
      delay = Math.max(delay, 1000 * Number(answer.headers.get("retry-after") ?? 0));
    } catch (problem) {
      if (!(problem instanceof UnreachableError)) throw problem;
    }
    await pause(delay, request.signal);
  }
}

/** Sends a request with the caller's token; again only where that was refused.
 *
 * @throws UnreachableError
 */
export async function sendOnce(request: Request): Promise<Response> {
  for (let tries = 0; ; tries += 1) {
    const sent = request.clone();
    let answer: Response;
    try {
      const token = await accessToken();
      sent.headers.set("authorization", `Bearer ${token}`);
      answer = await fetch(sent);
      if (answer.status === 401 && tries < 2) {
        distrust(token);
        continue;
      }
    } catch (problem) {
      if (request.signal.aborted) throw problem;
      online.value = false;
      throw new UnreachableError();
    }
    // These are of what stands before the API; the API's own problems are of a type of ours.
    const passing = answer.status === 502 || answer.status === 503 || answer.status === 504;
    const said = passing ? ((await answer.clone().json().catch(() => ({}))) as Partial<Problem>) : {};
    online.value = !passing || (said.type ?? "").startsWith("urn:");
    return answer;
  }
}

function pause(milliseconds: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (stop.aborted) return reject(stop.reason as Error);
    const timer = setTimeout(resolve, milliseconds);
    stop.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(stop.reason as Error);
    });
  });
}

let made: ReturnType<typeof createClient<paths>> | undefined;

/** The client: `must(api().GET("/sagas/{saga_id}", {params: {path: {saga_id}}}))`. */
export function api(): ReturnType<typeof createClient<paths>> {
  made ??= createClient<paths>({ baseUrl: new URL(config().api, location.origin).href, fetch: send });
  return made;
}

/** What was answered.
 *
 * @throws ProblemError, UnreachableError
 */
export async function must<Data>(call: Promise<{ data?: Data; error?: unknown; response: Response }>): Promise<Data> {
  const { data, error, response } = await call;
  if (response.ok) return data as Data;
  throw problemOf(response, error);
}

/** A call of a path that is this deployment's own, which the generated types do not have.
 *
 * @throws ProblemError, UnreachableError
 */
export async function call(
  method: "GET" | "POST" | "PUT" | "DELETE",
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
  stop?: AbortSignal,
): Promise<unknown> {
  const request = new Request(new URL(config().api + path, location.origin), {
    method,
    headers: {
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    ...(stop ? { signal: stop } : {}),
  });
  const answer = await send(request);
  const said: unknown = await answer.json().catch(() => undefined);
  if (!answer.ok) throw problemOf(answer, said);
  return said;
}

/** The problem that an answer is. */
export function problemOf(answer: Response, said: unknown): ProblemError {
  const after = Number(answer.headers.get("retry-after")) || 0;
  if (typeof said === "object" && said !== null && "title" in said) return new ProblemError(said as Problem, after);
  const title = answer.statusText || "The API answered with an error";
  return new ProblemError({ type: "about:blank", title, status: answer.status, detail: "" }, after);
}

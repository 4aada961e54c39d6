/** The API, by types that are generated from its description. */
import { signal } from "@preact/signals";
import createClient, { type Middleware } from "openapi-fetch";
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

const authorised: Middleware = {
  async onRequest({ request }) {
    request.headers.set("authorization", `Bearer ${await accessToken()}`);
    return request;
  },
};

/** Sends a request; a GET again, with growing delays, until the API answers. */
async function send(request: Request): Promise<Response> {
  const again = request.method === "GET";
  for (let tries = 0; ; tries += 1) {
    try {
      const answer = await fetch(request.clone());
      if (answer.status === 401) {
        const token = request.headers.get("authorization")?.slice("Bearer ".length) ?? "";
        if (tries > 2) return answer;
        distrust(token);
        request.headers.set("authorization", `Bearer ${await accessToken()}`);
        continue;
      }
      const away = answer.status === 502 || answer.status === 503 || answer.status === 504;
      online.value = !away;
      if (!away || !again) return answer;
      if (tries >= 4 && request.signal.aborted) return answer;
    } catch (problem) {
      if (request.signal.aborted) throw problem;
      online.value = false;
      if (!again) throw new UnreachableError();
    }
    await pause(Math.min(500 * 2 ** tries, 5000), request.signal);
  }
}

function pause(milliseconds: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
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
  if (!made) {
    made = createClient<paths>({ baseUrl: new URL(config().api, location.origin).href, fetch: send });
    made.use(authorised);
  }
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
): Promise<unknown> {
  const request = new Request(new URL(config().api + path, location.origin), {
    method,
    headers: {
      authorization: `Bearer ${await accessToken()}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
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

/** What the page is told of where it is served: `console.json`, beside the page. */
export interface Config {
  /** Where the API is. */
  api: string;
  /** The stream of server-sent events, if the deployment has one. */
  sse: string | null;
  /** The WebSocket, if the deployment has one. */
  ws: string | null;
  /** Where people sign in; all null until the deployment knows the console's origin. */
  authorize: string | null;
  token: string | null;
  revoke: string | null;
  client_id: string | null;
  /** The scopes to ask for, as the issuer calls them. */
  scopes: string[];
  /** What the issuer's tokens put before each scope. */
  scope_prefix: string;
}

let read: Config | undefined;

/** Read the configuration; called once, before anything else.
 *
 * @throws Error where there is none that can be read.
 */
export async function readConfig(): Promise<void> {
  const answer = await fetch("console.json", { cache: "no-store" });
  if (!answer.ok) throw new Error(`console.json: ${answer.status} ${answer.statusText}`);
  read = (await answer.json()) as Config;
}

export function config(): Config {
  if (!read) throw new Error("the configuration has not been read");
  return read;
}

/** Where people sign in, and as which client; undefined until they can. */
export function issuer(): { authorize: string; token: string; revoke: string; client_id: string } | undefined {
  const { authorize, token, revoke, client_id } = config();
  return authorize && token && revoke && client_id ? { authorize, token, revoke, client_id } : undefined;
}

/** An address of the configuration, which may be relative to the page's origin.
 *
 * @param scheme `ws` for a WebSocket.
 */
export function address(path: string, scheme: "http" | "ws" = "http"): string {
  const url = new URL(path, location.origin);
  if (scheme === "ws") url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}

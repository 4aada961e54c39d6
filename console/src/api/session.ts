/** Who is signed in: an authorization code with PKCE, as `recourse login` has it.
 *
 * The access token is in memory alone; the refresh token is kept by the tab (`sessionStorage`), so
 * that a reload needs no new sign-in. No token is ever in an address.
 */
import { computed, signal } from "@preact/signals";
import { go } from "../route";
import { address, config, issuer } from "./config";

export interface Session {
  subject: string;
  scopes: ReadonlySet<string>;
}

interface Tokens {
  access_token: string;
  expires_in: number;
  refresh_token?: string;
}

interface Begun {
  state: string;
  verifier: string;
  /** Where to go on, a fragment. */
  then: string;
}

const REFRESH = "recourse.refresh";
const BEGUN = "recourse.sign-in";
const CODES = "recourse.codes";
/** A token is replaced so many milliseconds before it runs out. */
const EARLY = 60_000;
/** What the state begins with of a sign-in in a window of its own. */
const AGAIN = "again.";

export const session = signal<Session | null>(null);
/** Whether the sign-in has run out: the view stays as it is until the user has signed in again. */
export const ended = signal(false);
export const may = (scope: string): boolean => session.value?.scopes.has(scope) ?? false;
export const isOperator = computed(() => may("operator"));

let access = "";
let until = 0;
let waiting: (() => void)[] = [];

/** Go on from a redirect of the issuer, or from the tab's refresh token.
 *
 * @returns false where this page is the window of another one's sign-in, and will close.
 * @throws Error where the issuer refused.
 */
export async function begin(): Promise<boolean> {
  const query = new URLSearchParams(location.search);
  if (query.has("state")) {
    const { state, then } = begun();
    go(location.pathname + then, { replace: true });
    if (query.get("state")?.startsWith(AGAIN)) {
      // This window was opened to sign in again: the page that opened it has the verifier.
      const codes = new BroadcastChannel(CODES);
      codes.postMessage(Object.fromEntries(query));
      codes.close();
      window.close();
      return false;
    }
    if (query.get("state") !== state) throw new Error("this sign-in was not begun in this tab");
    await exchange(Object.fromEntries(query));
  } else if (sessionStorage.getItem(REFRESH)) {
    await refresh();
    ended.value = false; // nothing is on the screen yet that could be lost
  }
  return true;
}

/** Leave the page, to sign in. */
export async function signIn(): Promise<void> {
  location.assign(await authorization(random()));
}

/** Sign in again, in a window of its own: nothing on this page is lost. */
export async function signInAgain(): Promise<void> {
  // Opened before anything is awaited: otherwise it would be a pop-up that browsers block.
  const opened = window.open("about:blank", "recourse-sign-in", "popup,width=520,height=640");
  if (!opened) return signIn();
  const url = await authorization(AGAIN + random());
  const codes = new BroadcastChannel(CODES);
  codes.onmessage = async ({ data }: MessageEvent<Record<string, string>>) => {
    if (data["state"] !== begun().state) return;
    codes.close();
    try {
      await exchange(data);
    } catch (problem) {
      console.warn(problem);
    }
  };
  opened.location.assign(url);
}

export async function signOut(): Promise<void> {
  const token = sessionStorage.getItem(REFRESH);
  forget();
  session.value = null;
  ended.value = false;
  if (token) await post(known().revoke, { token });
}

/** A token that is valid now; waits where the user must sign in again first. */
export async function accessToken(): Promise<string> {
  if (Date.now() > until - EARLY && !ended.value) await refresh();
  while (ended.value) await new Promise<void>((resolve) => waiting.push(resolve));
  return access;
}

/** Have the next call refresh the token: the API has refused this one. */
export function distrust(token: string): void {
  if (token === access) until = 0;
}

async function authorization(state: string): Promise<string> {
  const verifier = random();
  const kept: Begun = { state, verifier, then: location.hash };
  sessionStorage.setItem(BEGUN, JSON.stringify(kept));
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  const url = new URL(address(known().authorize));
  url.search = new URLSearchParams({
    response_type: "code",
    client_id: known().client_id,
    redirect_uri: here(),
    scope: config().scopes.join(" "),
    state: kept.state,
    code_challenge: base64url(new Uint8Array(digest)),
    code_challenge_method: "S256",
  }).toString();
  return url.href;
}

async function exchange(answer: Record<string, string>): Promise<void> {
  if (answer["error"]) throw new Error(answer["error_description"] ?? answer["error"]);
  const tokens = await post(known().token, {
    grant_type: "authorization_code",
    code: answer["code"] ?? "",
    redirect_uri: here(),
    code_verifier: begun().verifier,
  });
  sessionStorage.removeItem(BEGUN);
  if (!tokens.ok) throw new Error(await refusal(tokens));
  take((await tokens.json()) as Tokens);
}

/** Replace the access token, once however many ask for it; sets `ended` where that is refused. */
function refresh(): Promise<void> {
  refreshing ??= (async () => {
    const token = sessionStorage.getItem(REFRESH);
    const answer = token && (await post(known().token, { grant_type: "refresh_token", refresh_token: token }));
    if (answer && answer.ok) take((await answer.json()) as Tokens);
    else if (answer && answer.status >= 500) throw new TypeError(`the issuer answered ${answer.status}`);
    else {
      forget();
      ended.value = session.value !== null;
    }
  })().finally(() => (refreshing = undefined));
  return refreshing;
}
let refreshing: Promise<void> | undefined;

function take(tokens: Tokens): void {
  access = tokens.access_token;
  until = Date.now() + tokens.expires_in * 1000;
  if (tokens.refresh_token) sessionStorage.setItem(REFRESH, tokens.refresh_token);
  const claims = JSON.parse(
    new TextDecoder().decode(bytes((access.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/"))),
  ) as { sub: string; scope?: string };
  const prefix = config().scope_prefix;
  const scopes = (claims.scope ?? "")
    .split(" ")
    .filter((one) => one.startsWith(prefix))
    .map((one) => one.slice(prefix.length));
  session.value = { subject: claims.sub, scopes: new Set(scopes) };
  ended.value = false;
  for (const resolve of waiting.splice(0)) resolve();
}

function forget(): void {
  access = "";
  until = 0;
  sessionStorage.removeItem(REFRESH);
}

function begun(): Begun {
  const kept = sessionStorage.getItem(BEGUN);
  return kept ? (JSON.parse(kept) as Begun) : { state: "", verifier: "", then: "" };
}

function post(path: string, fields: Record<string, string>): Promise<Response> {
  const body = new URLSearchParams({ ...fields, client_id: known().client_id });
  return fetch(address(path), { method: "POST", body });
}

async function refusal(answer: Response): Promise<string> {
  const said = (await answer.json().catch(() => ({}))) as Record<string, string>;
  return said["error_description"] ?? said["error"] ?? `the issuer answered ${answer.status}`;
}

function known(): NonNullable<ReturnType<typeof issuer>> {
  const found = issuer();
  if (!found) throw new Error("nobody can sign in to this console yet");
  return found;
}

const here = (): string => location.origin + location.pathname;
const random = (): string => base64url(crypto.getRandomValues(new Uint8Array(32)));
const bytes = (base64: string): Uint8Array => Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));

function base64url(of: Uint8Array): string {
  return btoa(String.fromCharCode(...of)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

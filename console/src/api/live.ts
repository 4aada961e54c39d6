/** The feed as it grows: by WebSocket, else by server-sent events, else by polling.
 *
 * One connection for the whole page; each channel goes on after the cursor of the one before it.
 */
import { signal } from "@preact/signals";
import { config, address } from "./config";
import { api, must, problemOf, ProblemError, sendOnce, type Event } from "./client";
import { accessToken, may, session } from "./session";

export type Channel = "websocket" | "sse" | "polling";
export type FeedEvent = Event & { cursor?: string };
/** What the WebSocket says that is no event. */
interface Answer {
  type: "subscribed" | "pong" | "error";
  cursor?: string;
  problem?: { type: string };
}
type Listener = (event: FeedEvent, by: Channel) => void;

/** By what channel events arrive now; null while none is open. */
export const channel = signal<Channel | null>(null);

const listeners = new Set<Listener>();
const PATIENCE = 10_000;
const PING = 25_000;
/** After so many milliseconds on a lesser channel the better one is tried again. */
const LESSER = 120_000;
let cursor: string | undefined;
let running = false;

/** Hear of each event from now on; of none, without the scope of those who read sagas.
 *
 * @returns what ends it.
 */
export function listen(listener: Listener): () => void {
  listeners.add(listener);
  if (!running && may("sagas:read")) void run();
  return () => listeners.delete(listener);
}

async function run(): Promise<void> {
  running = true;
  let delay = 250;
  while (session.value) {
    const opened = Date.now();
    for (const [one, open] of CHANNELS) {
      try {
        await open();
      } catch (problem) {
        console.info(`${one}:`, problem); // the next one takes over
      }
      channel.value = null;
      if (Date.now() - opened > PATIENCE) break; // it had worked: begin with the best again
    }
    delay = Date.now() - opened > PATIENCE ? 250 : Math.min(delay * 2, 10_000);
    await new Promise((resolve) => setTimeout(resolve, delay));
  }
  running = false;
}

function take(event: FeedEvent, at: string | undefined, by: Channel): void {
  if (at) cursor = at;
  for (const listener of listeners) listener(event, by);
}

async function webSocket(): Promise<void> {
  const { ws } = config();
  if (!ws) return;
  const url = new URL(address(ws, "ws"));
  if (cursor) url.searchParams.set("after", cursor);
  const socket = new WebSocket(url, ["recourse.v1", `bearer.${await accessToken()}`]);
  let alive = Date.now();
  const beat = setInterval(() => {
    if (Date.now() - alive > PING + PATIENCE) socket.close();
    else if (socket.readyState === WebSocket.OPEN) socket.send('{"action":"ping"}');
  }, PING);
  const closed = new Promise<void>((resolve) => (socket.onclose = () => resolve()));
  const slow = setTimeout(() => socket.readyState === WebSocket.OPEN || socket.close(), PATIENCE);
  socket.onopen = () => {
    channel.value = "websocket";
    if (!cursor) socket.send('{"action":"subscribe"}'); // the answer has the cursor of now
  };
  socket.onmessage = ({ data }: MessageEvent<string>) => {
    alive = Date.now();
    const said = JSON.parse(data) as FeedEvent | Answer;
    if ("specversion" in said) take(said, said.cursor, "websocket");
    else if (said.type === "subscribed") cursor ??= said.cursor;
    else if (said.problem?.type.endsWith("cursor-expired")) cursor = undefined;
  };
  await closed;
  clearInterval(beat);
  clearTimeout(slow);
}

async function serverSentEvents(): Promise<void> {
  const { sse } = config();
  if (!sse) return;
  try {
    await readStream(sse, cursor, AbortSignal.timeout(LESSER), (event, id) => {
      if (id) cursor = id;
      if (event) take(event, id, "sse");
      else channel.value = "sse";
    });
  } catch (problem) {
    if (problem instanceof ProblemError && problem.kind === "cursor-expired") cursor = undefined;
    throw problem;
  }
}

/** Read a stream of server-sent events until it ends.
 *
 * @param found Called with each event and its cursor; without an event when the stream is open.
 * @param came Called with the number of bytes of each piece.
 * @throws ProblemError such as `cursor-expired`.
 */
export async function readStream(
  path: string,
  after: string | undefined,
  stop: AbortSignal,
  found: (event: FeedEvent | undefined, id: string | undefined) => void,
  came: (bytes: number) => void = () => undefined,
): Promise<void> {
  const headers: Record<string, string> = { authorization: `Bearer ${await accessToken()}` };
  if (after) headers["last-event-id"] = after;
  const answer = await fetch(address(path), { headers, signal: stop });
  if (!answer.ok || !answer.body) throw problemOf(answer, await answer.json().catch(() => undefined));
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    came(value.length);
    const frames = (text + decoder.decode(value, { stream: true })).split("\n\n");
    text = frames.pop() ?? "";
    for (const frame of frames) {
      const field = (name: string) => frame.match(new RegExp(`^${name}: (.*)$`, "m"))?.[1];
      const data = field("data");
      const id = field("id");
      if (data || id) found(data ? (JSON.parse(data) as FeedEvent) : undefined, id);
    }
  }
}

async function polling(): Promise<void> {
  const opened = Date.now();
  let old = !cursor; // without a cursor a feed begins with the oldest event that is kept
  while (session.value && Date.now() - opened < LESSER) {
    const query = { limit: 500, wait: old ? 0 : 20, ...(cursor ? { after: cursor } : {}) };
    const page = await must(api().GET("/events", { params: { query }, fetch: sendOnce }));
    cursor = page.cursor;
    if (old) old = page.items.length > 0;
    else for (const event of page.items) take(event, undefined, "polling");
    if (!old) channel.value = "polling";
  }
}

const CHANNELS: [Channel, () => Promise<void>][] = [
  ["websocket", webSocket],
  ["sse", serverSentEvents],
  ["polling", polling],
];

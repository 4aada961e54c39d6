/** The same events by every channel at once: when each has come, and what that took.
 *
 * Each channel is a connection of its own, beside that of the page. All of them begin now.
 */
import { address, config } from "../api/config";
import type { FeedEvent } from "../api/live";
import { readStream } from "../api/live";
import { sendOnce, type Saga, type Schemas } from "../api/client";
import { accessToken } from "../api/session";

export const CHANNELS = ["websocket", "sse", "long-poll", "saga-poll", "webhook"] as const;
export type Channel = (typeof CHANNELS)[number];

export interface Spent {
  state: string;
  requests: number;
  /** Of the answers' bodies. */
  bytes: number;
}

/** An event, and when each channel brought it: in epoch milliseconds of this page's clock. */
export interface Raced {
  id: string;
  type: string;
  saga: string;
  /** When it happened, by the API's clock. */
  time: number;
  at: Partial<Record<Channel, number>>;
}

const PING = 25_000;
/** How long the first channel may take to say where the feed is now. */
const PATIENCE = 5_000;
const now = (): number => performance.timeOrigin + performance.now();

export class Race {
  readonly spent: Record<Channel, Spent>;
  readonly events = new Map<string, Raced>();
  /** How much the API's clock is ahead of this page's, in milliseconds: it is between these two. */
  ahead = { least: -Infinity, most: Infinity };
  private readonly stop = new AbortController();
  private readonly polled = new Set<string>();
  private readonly snapshots = new Map<string, { at: number; until: number }[]>();
  private begun: (cursor: string) => void = () => undefined;
  private readonly beginning = new Promise<string>((resolve) => (this.begun = resolve));

  /**
   * @param changed Called whenever something is new; often.
   * @param every The seconds between two polls of a saga.
   * @param webhook The id of a webhook whose log is read, if there is one.
   */
  constructor(
    private readonly changed: () => void,
    private readonly every: () => number,
    webhook: string | null,
  ) {
    this.spent = Object.fromEntries(CHANNELS.map((name) => [name, { state: "connecting", requests: 0, bytes: 0 }])) as Record<
      Channel,
      Spent
    >;
    const { sse, ws } = config();
    void this.run("websocket", ws ? () => this.webSocket(ws) : "this deployment has none");
    void this.run("sse", sse ? () => this.stream(sse) : "this deployment has none");
    void this.run("long-poll", () => this.longPoll());
    void this.run("saga-poll", () => this.sagaPoll());
    void this.run("webhook", webhook ? () => this.deliveries(webhook) : "you have none that is enabled");
  }

  /** Close all of it. */
  end(): void {
    this.stop.abort();
    for (const name of CHANNELS) if (this.spent[name].state !== "this deployment has none") this.spent[name].state = "stopped";
    this.changed();
  }

  /** Ask for this saga too, until it has ended. */
  follow(sagaId: string): void {
    this.polled.add(sagaId);
  }

  /** Keep a channel open; again after a failure, with growing pauses. */
  private async run(name: Channel, open: (() => Promise<void>) | string): Promise<void> {
    const { signal } = this.stop;
    if (typeof open === "string") {
      this.say(name, open);
      return;
    }
    for (let delay = 500; !signal.aborted; delay = Math.min(delay * 2, 10_000)) {
      const began = now();
      let why = "closed";
      try {
        await open();
      } catch (problem) {
        why = problem instanceof Error ? problem.message : String(problem);
      }
      if (signal.aborted) return;
      if (now() - began > 10_000) delay = 500;
      this.say(name, `again in ${delay / 1000} s: ${why}`);
      await this.pause(delay);
    }
  }

  private cursors: Partial<Record<Channel, string>> = {};

  private async webSocket(path: string): Promise<void> {
    const { signal } = this.stop;
    const url = new URL(address(path, "ws"));
    // Where the stream began, so that neither has an event that the other has not.
    const after = this.cursors.websocket ?? (config().sse ? await Promise.race([this.beginning, this.pause(PATIENCE)]) : undefined);
    if (after) url.searchParams.set("after", after);
    const token = await accessToken();
    signal.throwIfAborted();
    const socket = new WebSocket(url, ["recourse.v1", `bearer.${token}`]);
    this.count("websocket", 1, 0);
    const say = (message: object) => {
      socket.send(JSON.stringify(message));
      this.count("websocket", 1, 0);
    };
    const close = () => socket.close();
    signal.addEventListener("abort", close);
    const beat = setInterval(() => socket.readyState === WebSocket.OPEN && say({ action: "ping" }), PING);
    socket.onopen = () => {
      this.say("websocket", "open");
      if (!after) say({ action: "subscribe" }); // the answer has the cursor of now
    };
    socket.onmessage = ({ data }: MessageEvent<string>) => {
      const at = now();
      this.count("websocket", 0, new Blob([data]).size);
      const found = JSON.parse(data) as Partial<FeedEvent> & { problem?: Schemas["Problem"] };
      if (found.cursor) this.cursors.websocket = found.cursor;
      if (found.specversion) this.arrived("websocket", found as FeedEvent, at);
      else if (found.problem)
        this.cursors.websocket = ""; // such as an expired cursor: it goes on from now
      else if (found.cursor) this.begun(found.cursor);
    };
    await new Promise((resolve) => (socket.onclose = resolve));
    clearInterval(beat);
    signal.removeEventListener("abort", close);
  }

  private async stream(path: string): Promise<void> {
    this.count("sse", 1, 0);
    await readStream(
      path,
      this.cursors.sse,
      this.stop.signal,
      (event, id) => {
        const at = now();
        this.say("sse", "open");
        if (id) this.cursors.sse = id;
        if (event) this.arrived("sse", event, at);
        else if (id) this.begun(id);
      },
      (bytes) => this.count("sse", 0, bytes),
    );
  }

  private async longPoll(): Promise<void> {
    let cursor = this.cursors["long-poll"] ?? (await this.head());
    while (!this.stop.signal.aborted) {
      this.say("long-poll", "waiting");
      const query = new URLSearchParams({ limit: "500", wait: "20", ...(cursor ? { after: cursor } : {}) });
      const { body, at } = await this.get("long-poll", `/events?${query}`);
      const page = body as { items: FeedEvent[]; cursor: string };
      this.cursors["long-poll"] = cursor = page.cursor;
      for (const event of page.items) this.arrived("long-poll", event, at);
    }
  }

  /** Where the feed is now: as a channel that is pushed to says, or else by reading all there is. */
  private async head(): Promise<string> {
    const found = await Promise.race([this.beginning, this.pause(PATIENCE)]);
    let cursor = found ?? "";
    for (let more = !found; more;) {
      const query = new URLSearchParams({ limit: "500", ...(cursor ? { after: cursor } : {}) });
      const page = (await this.get("long-poll", `/events?${query}`)).body as { items: FeedEvent[]; cursor: string };
      cursor = page.cursor;
      more = page.items.length > 0;
    }
    return cursor;
  }

  /** Ask for each saga that was begun here, with the ETag of what is known of it. */
  private async sagaPoll(): Promise<void> {
    const tags = new Map<string, string>();
    for (;;) {
      const waiting = [...this.polled];
      this.say("saga-poll", waiting.length ? `every ${this.every()} s` : "idle: no saga of this page runs");
      for (const id of waiting) {
        const tag = tags.get(id);
        const { answer, body, at } = await this.get(
          "saga-poll",
          `/sagas/${encodeURIComponent(id)}`,
          tag ? { "if-none-match": tag } : {},
        );
        if (answer.status === 304) continue;
        tags.set(id, answer.headers.get("etag") ?? "");
        this.seen(body as Saga, at);
      }
      await this.pause(waiting.length ? this.every() * 1000 : 250);
      if (this.stop.signal.aborted) return;
    }
  }

  /** A saga as it was at a moment shows every event up to its latest change. */
  private seen(saga: Saga, at: number): void {
    const times = [saga.started_at, saga.ended_at, ...saga.steps.flatMap((step) => [step.started_at, step.ended_at])];
    const until = Math.max(...times.map((time) => (time ? Date.parse(time) : 0)));
    this.snapshots.set(saga.saga_id, [...(this.snapshots.get(saga.saga_id) ?? []), { at, until }]);
    for (const event of this.events.values()) if (event.saga === saga.saga_id) this.bySnapshot(event);
    if (saga.ended_at) this.polled.delete(saga.saga_id);
    this.changed();
  }

  private bySnapshot(event: Raced): void {
    const first = this.snapshots.get(event.saga)?.find(({ until }) => until >= event.time);
    if (first) event.at["saga-poll"] ??= first.at;
  }

  /** A page cannot be called: what a webhook was sent is in its log, by the API's clock. */
  private async deliveries(webhook: string): Promise<void> {
    for (;;) {
      const { body } = await this.get("webhook", `/webhooks/${encodeURIComponent(webhook)}/deliveries?limit=50`);
      this.say("webhook", "its log is read every 2 s");
      for (const one of (body as { items: Schemas["Delivery"][] }).items) {
        const event = this.events.get(one.event_id);
        if (event && one.outcome === "delivered") event.at.webhook ??= Date.parse(one.at) + one.latency_ms - this.skew;
      }
      this.changed();
      await this.pause(2000);
      if (this.stop.signal.aborted) return;
    }
  }

  /** How much the API's clock is ahead, in milliseconds. */
  get skew(): number {
    const { least, most } = this.ahead;
    return Number.isFinite(least) ? (least + most) / 2 : 0;
  }

  private async get(
    name: Channel,
    path: string,
    headers: Record<string, string> = {},
  ): Promise<{ answer: Response; body: unknown; at: number }> {
    const { signal } = this.stop;
    const sent = now();
    const answer = await sendOnce(
      new Request(new URL(config().api + path, location.origin), { headers, cache: "no-store", signal }),
    );
    const text = await answer.text();
    const at = now();
    this.count(name, 1, new Blob([text]).size);
    this.compare(answer, sent, at);
    if (!answer.ok && answer.status !== 304) throw new Error(`the API answered ${answer.status}`);
    return { answer, body: text ? JSON.parse(text) : undefined, at };
  }

  /** An answer's `Date` is a whole second, and was written after `sent` and before `at`: many of them tell the clocks' difference. */
  private compare(answer: Response, sent: number, at: number): void {
    const date = Date.parse(answer.headers.get("date") ?? "");
    if (Number.isNaN(date)) return;
    const here = { least: date - at, most: date + 1000 - sent };
    const both = { least: Math.max(this.ahead.least, here.least), most: Math.min(this.ahead.most, here.most) };
    this.ahead = both.least <= both.most ? both : here; // a clock was set
  }

  private arrived(by: Channel, event: FeedEvent, at: number): void {
    const known = this.events.get(event.id);
    const raced = known ?? { id: event.id, type: event.type, saga: event.subject, time: Date.parse(event.time), at: {} };
    raced.at[by] ??= at;
    if (!known) {
      this.events.set(event.id, raced);
      this.bySnapshot(raced);
    }
    this.changed();
  }

  private count(name: Channel, requests: number, bytes: number): void {
    this.spent[name].requests += requests;
    this.spent[name].bytes += bytes;
    this.changed();
  }

  private say(name: Channel, state: string): void {
    if (this.stop.signal.aborted || this.spent[name].state === state) return;
    this.spent[name].state = state;
    this.changed();
  }

  private pause(milliseconds: number): Promise<undefined> {
    const { signal } = this.stop;
    return new Promise((resolve) => {
      const done = () => (clearTimeout(timer), signal.removeEventListener("abort", done), resolve(undefined));
      const timer = setTimeout(done, milliseconds);
      signal.addEventListener("abort", done);
    });
  }
}

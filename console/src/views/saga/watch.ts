/** One saga, live: heard of through the feed, and waited on, since a feed has only one's own. */
import { useEffect, useRef, useState } from "preact/hooks";
import { api, must, online, ProblemError, type Event, type Saga } from "../../api/client";
import { listen } from "../../api/live";

export interface Seen {
  saga: Saga;
  /** Its version, for `If-Match`. */
  tag: string;
}

export interface Watched {
  seen: Seen | undefined;
  /** Its events, in order. */
  events: Event[];
  problem: unknown;
  /** Read it again now; resolves when that is done. */
  reload: () => Promise<void>;
}

/** Seconds that the API holds an answer back for a change. */
const WAIT = 20;
/** A saga in one of these changes no more. */
export const OVER: readonly Saga["status"][] = ["SUCCEEDED", "COMPENSATED"];

/** Watch a saga until its end, or until the view is left. */
export function useSaga(id: string): Watched {
  const [seen, setSeen] = useState<Seen>();
  const [events, setEvents] = useState<ReadonlyMap<string, Event>>(new Map());
  const [problem, setProblem] = useState<unknown>();
  const again = useRef<() => Promise<void>>(async () => undefined);

  useEffect(() => {
    const stop = new AbortController();
    const { signal } = stop;
    let known: Seen | undefined;
    const add = (found: readonly Event[]) =>
      setEvents((before) => new Map([...before, ...found.map((one): [string, Event] => [one.id, one])]));

    let waiting = new AbortController();
    const read = async (wait: number) => {
      if (wait) waiting = new AbortController();
      const stopped = wait ? AbortSignal.any([signal, waiting.signal]) : signal;
      const header = known ? { "If-None-Match": known.tag, ...(wait ? { Prefer: `wait=${wait}` } : {}) } : {};
      const call = api().GET("/sagas/{saga_id}", { params: { path: { saga_id: id }, header }, signal: stopped });
      const answer = (await call).response;
      if (answer.status !== 304) {
        const saga = (await must(call)) as Saga;
        const found = { saga, tag: answer.headers.get("etag") ?? "" };
        const page = await must(api().GET("/sagas/{saga_id}/events", { params: { path: { saga_id: id } }, signal }));
        add(page.items);
        // The answer to an older question may come later than a newer one's.
        if (!known || version(found.tag) >= version(known.tag)) setSeen((known = found));
      }
      setProblem(undefined);
    };

    let watching = false;
    const watch = async () => {
      if (watching) return;
      watching = true;
      await follow().finally(() => (watching = false));
    };
    const follow = async () => {
      for (let failed = 0; !signal.aborted; ) {
        try {
          await read(known && online.value ? WAIT : 0);
          if (known && OVER.includes(known.saga.status)) return;
          failed = 0;
        } catch (caught) {
          if (signal.aborted) return;
          if ((caught as Error).name === "AbortError") continue; // the wait alone was ended
          const status = caught instanceof ProblemError ? caught.problem.status : 0;
          // Where as many of one's requests wait as may, a later one will.
          if (status !== 429 || !known) setProblem(caught);
          if (status >= 400 && status < 500 && status !== 429) return;
          failed += 1;
          await new Promise((resolve) => setTimeout(resolve, Math.min(1000 * 2 ** failed, 20_000)));
        }
      }
    };
    void watch();
    // An answer that is held back would say only later that the API can be reached again.
    const unsubscribe = online.subscribe((reached) => reached || waiting.abort());

    let reading: Promise<void> | undefined;
    let due = false;
    again.current = async () => {
      // What is heard while it is being read makes it read once more, and not more often.
      due = true;
      reading ??= (async () => {
        while (due && !signal.aborted) {
          due = false;
          try {
            await read(0);
            if (!OVER.includes(known!.saga.status)) void watch();
          } catch (caught) {
            if (!signal.aborted) setProblem(caught);
          }
        }
      })().finally(() => (reading = undefined));
      return reading;
    };
    const end = listen((event) => {
      if (event.subject !== id) return;
      const { cursor: _, ...said } = event;
      add([said]);
      void again.current();
    });
    return () => (stop.abort(), end(), unsubscribe());
  }, [id]);

  const inOrder = [...events.values()].sort((one, other) => one.sequence - other.sequence);
  return { seen, events: inOrder, problem, reload: () => again.current() };
}

const version = (tag: string): number => Number(tag.replace(/\D/g, ""));

/** What a view has been answered: loading, then data or a problem, asked again when told. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

export interface Resource<Data> {
  data: Data | undefined;
  problem: unknown;
  /** Ask again; what is shown stays until the answer is there. */
  reload: () => void;
}

/** Ask for something, and again whenever `key` changes: the answer to an older key is dropped.
 *
 * However often it is told to, it asks one at a time, and once more after that: a slow API is not
 * asked by more and more at once. `ask` passes the signal on, which ends what nobody waits for.
 */
export function useResource<Data>(key: string, ask: (stop: AbortSignal) => Promise<Data>): Resource<Data> {
  const [answer, setAnswer] = useState<{ key: string; data?: Data; problem?: unknown }>({ key });
  const asked = useRef(ask);
  asked.current = ask;
  const again = useRef(() => {});
  useEffect(() => {
    const stop = new AbortController();
    let asking = false;
    let wanted = false;
    const run = async () => {
      wanted = true;
      if (asking) return;
      asking = true;
      while (wanted && !stop.signal.aborted) {
        wanted = false;
        try {
          const data = await asked.current(stop.signal);
          if (!stop.signal.aborted) setAnswer({ key, data });
        } catch (problem) {
          if (!stop.signal.aborted) setAnswer((before) => ({ ...(before.key === key ? before : { key }), problem }));
        }
      }
      asking = false;
    };
    again.current = () => void run();
    void run();
    return () => stop.abort();
  }, [key]);
  const current = answer.key === key ? answer : { key };
  return { data: current.data, problem: current.problem, reload: useCallback(() => again.current(), []) };
}

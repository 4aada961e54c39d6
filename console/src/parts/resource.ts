/** What a view has been answered: loading, then data or a problem, asked again when told. */
import { useEffect, useRef, useState } from "preact/hooks";

export interface Resource<Data> {
  data: Data | undefined;
  problem: unknown;
  /** Ask again; what is shown stays until the answer is there. */
  reload: () => void;
}

/** Ask for something, and again whenever `key` changes: the answer to an older key is dropped. */
export function useResource<Data>(key: string, ask: (stop: AbortSignal) => Promise<Data>): Resource<Data> {
  const [answer, setAnswer] = useState<{ key: string; data?: Data; problem?: unknown }>({ key });
  const [times, setTimes] = useState(0);
  const asked = useRef(ask);
  asked.current = ask;
  useEffect(() => {
    const stop = new AbortController();
    asked.current(stop.signal).then(
      (data) => !stop.signal.aborted && setAnswer({ key, data }),
      (problem: unknown) => !stop.signal.aborted && setAnswer((before) => ({ ...(before.key === key ? before : { key }), problem })),
    );
    return () => stop.abort();
  }, [key, times]);
  const current = answer.key === key ? answer : { key };
  return { data: current.data, problem: current.problem, reload: () => setTimes((before) => before + 1) };
}

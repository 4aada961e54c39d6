/** What is asked again soon after something has happened. */
import { useEffect, useRef } from "preact/hooks";
import { listen, type FeedEvent } from "../api/live";

/** Many events make one call: soon, and then at most so often. */
const APART = 500;

/** Call `act` soon after each event that `about` is for, by default each of one's own. */
export function useEvents(act: () => void, about: (event: FeedEvent) => boolean = () => true): void {
  const latest = useRef({ act, about });
  latest.current = { act, about };
  useEffect(() => {
    let due: ReturnType<typeof setTimeout> | undefined;
    const end = listen((event) => {
      if (!latest.current.about(event)) return;
      due ??= setTimeout(() => {
        due = undefined;
        latest.current.act();
      }, APART);
    });
    return () => (clearTimeout(due), end());
  }, []);
}

/** The time, as it passes. */
import { useEffect, useState } from "preact/hooks";

/** Now in milliseconds, again and again while something goes on that is measured by it. */
export function useNow(passes: boolean, every = 500): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    setNow(Date.now());
    if (!passes) return;
    const timer = setInterval(() => document.hidden || setNow(Date.now()), every);
    return () => clearInterval(timer);
  }, [passes, every]);
  return now;
}

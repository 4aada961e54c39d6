/** What happens again and again while the page is looked at, and how late it is. */
import { useEffect, useRef, useState } from "preact/hooks";

/** Do something every so many milliseconds while the page is visible, one at a time. */
export function useEvery(milliseconds: number, act: () => Promise<void> | void): void {
  const latest = useRef(act);
  latest.current = act;
  useEffect(() => {
    let due: ReturnType<typeof setTimeout>;
    let over = false;
    const later = () => {
      if (!over)
        due = setTimeout(() => void Promise.resolve(document.hidden ? undefined : latest.current()).finally(later), milliseconds);
    };
    later();
    return () => ((over = true), clearTimeout(due));
  }, [milliseconds]);
}

/** The time in epoch milliseconds, as it goes by; it stands still where nothing is measured by it. */
export function useNow(every = 1000, passes = true): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    setNow(Date.now());
    if (!passes) return;
    const ticking = setInterval(() => setNow(Date.now()), every);
    return () => clearInterval(ticking);
  }, [every, passes]);
  return now;
}

/** Bytes in words: `512 bytes`, `3.4 MB`. */
export function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} bytes`;
  const units = ["kB", "MB", "GB"];
  let shown = bytes / 1000;
  let at = 0;
  for (; shown >= 1000 && at < units.length - 1; at += 1) shown /= 1000;
  return `${shown.toFixed(shown < 10 ? 1 : 0)} ${units[at]}`;
}

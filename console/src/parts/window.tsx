/** A long list of which only what is in sight is drawn: 10,000 rows scroll as ten do. */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

interface Rows {
  label: string;
  count: number;
  /** The height of a row, in pixels. */
  height: number;
  head: string[];
  row: (at: number) => ComponentChildren;
  /** Called when the end comes into sight. */
  end: () => void;
}

const AROUND = 10;

export function Window({ label, count, height, head, row, end }: Rows) {
  const box = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState({ top: 0, rows: 30 });
  const look = () => {
    const at = box.current;
    if (at) setSeen({ top: Math.floor(at.scrollTop / height), rows: Math.ceil(at.clientHeight / height) });
  };
  useEffect(() => {
    const watching = new ResizeObserver(look);
    watching.observe(box.current!);
    return () => watching.disconnect();
  }, []);
  const from = Math.max(0, seen.top - AROUND);
  const until = Math.min(count, seen.top + seen.rows + AROUND);
  useEffect(() => {
    if (until >= count - AROUND) end();
  }, [until, count]);
  return (
    <div class="window" role="table" aria-label={label} aria-rowcount={count + 1} ref={box} onScroll={look} tabIndex={0}>
      <div role="row" class="head" aria-rowindex={1}>
        {head.map((name) => (
          <span role="columnheader" key={name}>
            {name}
          </span>
        ))}
      </div>
      <div role="none" style={{ height: `${from * height}px` }} />
      {Array.from({ length: Math.max(0, until - from) }, (_, index) => (
        <div role="row" key={from + index} aria-rowindex={from + index + 2} style={{ height: `${height}px` }}>
          {row(from + index)}
        </div>
      ))}
      <div role="none" style={{ height: `${Math.max(0, count - until) * height}px` }} />
    </div>
  );
}

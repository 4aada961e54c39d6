/** A list that is asked for in pages, the newest first. */
import { useEffect, useRef, useState } from "preact/hooks";

interface Page {
  items: unknown[];
  cursor: string | null;
}

export interface Pages<First extends Page> {
  /** What has been read; undefined before the first answer. */
  items: First["items"] | undefined;
  /** The newest first page, with all that it says besides. */
  first: First | undefined;
  problem: unknown;
  /** Whether there are older ones. */
  more: boolean;
  /** Read the next page. */
  next: () => Promise<void>;
  /** Begin anew with the first page; what is shown stays until it is there. */
  reload: () => Promise<void>;
  /** The same, unless older pages are being looked at. */
  refresh: () => Promise<void>;
}

/** Read a list by pages; another `key` is another list. */
export function usePages<First extends Page>(key: string, ask: (cursor: string | undefined) => Promise<First>): Pages<First> {
  const [read, setRead] = useState<{ first?: First; items?: First["items"]; cursor: string | null; pages: number }>({
    cursor: null,
    pages: 0,
  });
  const [problem, setProblem] = useState<unknown>();
  const now = useRef({ turn: 0, asking: false, pages: 0 });
  now.current.pages = read.pages;

  const load = async (cursor?: string) => {
    const turn = cursor ? now.current.turn : (now.current.turn += 1);
    now.current.asking = true;
    try {
      const found = await ask(cursor);
      if (turn !== now.current.turn) return; // a later answer counts
      setProblem(undefined);
      setRead((before) =>
        cursor
          ? { ...before, items: [...(before.items ?? []), ...found.items], cursor: found.cursor, pages: before.pages + 1 }
          : { first: found, items: found.items, cursor: found.cursor, pages: 1 },
      );
    } catch (caught) {
      if (turn === now.current.turn) setProblem(caught);
    } finally {
      if (turn === now.current.turn) now.current.asking = false;
    }
  };
  useEffect(() => {
    setRead({ cursor: null, pages: 0 });
    void load();
    return () => void (now.current.turn += 1);
  }, [key]);
  return {
    items: read.items,
    first: read.first,
    problem,
    more: read.cursor !== null,
    next: async () => void (read.cursor && !now.current.asking && (await load(read.cursor))),
    reload: () => load(),
    refresh: async () => void (now.current.pages < 2 && !now.current.asking && (await load())),
  };
}

/** What a view keeps for its user over a reload and a sign-in: in this tab alone, until the sign-out. */
import { useState } from "preact/hooks";
import { session } from "../api/session";

const PREFIX = "recourse.kept.";

let signedIn = false;
session.subscribe((now) => {
  if (signedIn && !now) for (const key of Object.keys(sessionStorage)) if (key.startsWith(PREFIX)) sessionStorage.removeItem(key);
  signedIn = now !== null;
});

/** State by a name, which is of the one who is signed in. */
export function useKept<Kept>(name: string, initial: () => Kept): [Kept, (change: (before: Kept) => Kept) => void] {
  const key = `${PREFIX}${session.value?.subject ?? ""}.${name}`;
  const [kept, setKept] = useState<Kept>(() => {
    const text = sessionStorage.getItem(key);
    return text === null ? initial() : (JSON.parse(text) as Kept);
  });
  const change = (how: (before: Kept) => Kept) =>
    setKept((before) => {
      const after = how(before);
      try {
        sessionStorage.setItem(key, JSON.stringify(after));
      } catch (problem) {
        console.warn("it is kept until a reload only:", problem); // more than the browser stores
      }
      return after;
    });
  return [kept, change];
}

/** Where the user is: the fragment of the page's address, such as `#/sagas/<id>?tab=events`. */
import { computed, signal } from "@preact/signals";

const hash = signal(location.hash);
addEventListener("hashchange", () => (hash.value = location.hash));

/** The path's parts, decoded: `["sagas", "<id>"]`. */
export const path = computed(() =>
  (hash.value.replace(/^#\/?/, "").split("?")[0] ?? "").split("/").filter(Boolean).map(decoded),
);
/** What is after `?` in the fragment. */
export const query = computed(() => new URLSearchParams(hash.value.split("?")[1] ?? ""));

/** The address of a place. */
export function to(parts: string[], about: Record<string, string> = {}): string {
  const kept = Object.entries(about).filter(([, value]) => value !== "");
  const after = kept.length ? `?${new URLSearchParams(kept)}` : "";
  return `#/${parts.map(encodeURIComponent).join("/")}${after}`;
}

/** Go to a place; `replace` leaves no step to go back to. */
export function go(place: string, { replace = false } = {}): void {
  if (!replace) location.hash = place;
  else {
    history.replaceState(null, "", place);
    hash.value = location.hash;
  }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

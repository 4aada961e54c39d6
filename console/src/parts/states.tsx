/** What a view shows that has nothing to show: loading, empty, an error. */
import type { ComponentChildren } from "preact";
import { ProblemError } from "../api/client";

export function Loading({ what }: { what: string }) {
  return (
    <p class="state" role="status">
      Loading {what.toLowerCase()}…
    </p>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <div class="state">{children}</div>;
}

/** An error in words, with the fields that are wrong; `again` is what its button does. */
export function Failure({ problem, again }: { problem: unknown; again?: (() => void) | undefined }) {
  const known = problem instanceof ProblemError ? problem.problem : null;
  return (
    <div class="failure" role="alert">
      <strong>{known?.title ?? "This did not work"}</strong>
      <p>{known ? known.detail : problem instanceof Error ? problem.message : String(problem)}</p>
      {known?.errors && (
        <ul>
          {known.errors.map(({ field, message }) => (
            <li key={field}>
              <code>{field}</code>: {message}
            </li>
          ))}
        </ul>
      )}
      {again && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

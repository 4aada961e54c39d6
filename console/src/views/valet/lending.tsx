/** A document is lent by a link, which is tried as its holder would, and seen to die once it is revoked. */
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { api, must, ProblemError, UnreachableError, type Schemas } from "../../api/client";
import { useNow } from "../../parts/clock";
import { Once } from "../../parts/once";
import { Moment } from "../../parts/show";
import { Failure } from "../../parts/states";
import { redeem } from "../../parts/upload";
import { to } from "../../route";
import { follow } from "./download";

type Issued = Schemas["IssuedKey"];

/** The tokens that this page was told; they are nowhere else, and gone with it. */
export const held = signal<Record<string, string>>({});
const LIVES: [number, string][] = [
  [60, "1 minute"],
  [900, "15 minutes"],
  [3600, "1 hour"],
  [86_400, "1 day"],
  [604_800, "7 days"],
];

export function Lending({ objects, done, unsure }: { objects: string[]; done: (issued: Issued) => void; unsure: () => void }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>();
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    if (busy) return;
    const given = new FormData(event.currentTarget as HTMLFormElement);
    setBusy(true);
    setProblem(undefined);
    try {
      const body = {
        operation: "download" as const,
        object: String(given.get("object")),
        expires_in: Number(given.get("expires_in")),
        max_uses: Number(given.get("max_uses")),
        upload: null,
      };
      done(await must(api().POST("/valet-keys", { body })));
    } catch (caught) {
      setProblem(
        caught instanceof UnreachableError
          ? new Error("No answer came: a key may have been issued. If it is among your keys, revoke it: its token is lost.")
          : caught,
      );
      unsure();
    } finally {
      setBusy(false);
    }
  };
  return (
    <section aria-labelledby="lend">
      <h2 id="lend">Lend a document</h2>
      <form class="filters" onSubmit={submit}>
        <label>
          Object
          <input name="object" required maxLength={1000} placeholder="passports/asha.pdf" list="objects" autocomplete="off" />
        </label>
        <datalist id="objects">
          {objects.map((object) => (
            <option key={object} value={object} />
          ))}
        </datalist>
        <label>
          Expires in
          <select name="expires_in" defaultValue="900">
            {LIVES.map(([seconds, words]) => (
              <option key={seconds} value={seconds} selected={seconds === 900}>
                {words}
              </option>
            ))}
          </select>
        </label>
        <label>
          Uses
          <input name="max_uses" type="number" required min={1} max={10_000} defaultValue="10" />
        </label>
        <button type="submit" disabled={busy}>
          Issue a download key
        </button>
      </form>
      {problem !== undefined && <Failure problem={problem} />}
    </section>
  );
}

export function Lent({ issued, close }: { issued: Issued; close: () => void }) {
  return (
    <section class="card" aria-label="The key that was issued">
      <p>
        <strong>Copy it now:</strong> it is shown only once. Whoever has it can download <code>{issued.object}</code> until{" "}
        <Moment at={issued.expires_at} />.
      </p>
      <Once label="Link" value={issued.link} />
      <Once label="Token" value={issued.token} />
      <Trying token={issued.token} />
      <div class="buttons">
        <a href={to(["valet-keys", issued.key_id])}>Its uses, and revoking it</a>
        <button type="button" class="quiet" onClick={close}>
          Done
        </button>
      </div>
    </section>
  );
}

interface Try {
  at: string;
  until?: string;
  problem?: unknown;
}

/** Do with a token what its holder would, who is not signed in: see it work, and see it refused. */
export function Trying({ token, tried }: { token: string; tried?: () => void }) {
  const [tries, setTries] = useState<Try[]>([]);
  const [busy, setBusy] = useState(false);
  const now = useNow(250);
  const attempt = async (use: (url: string) => void) => {
    if (busy) return;
    setBusy(true);
    const found: Try = { at: new Date().toISOString() };
    try {
      const signed = await redeem(token);
      found.until = signed.expires_at;
      use(signed.url);
    } catch (problem) {
      found.problem = problem;
    } finally {
      setTries((before) => [found, ...before].slice(0, 20));
      setBusy(false);
      tried?.();
    }
  };
  return (
    <div>
      <div class="buttons">
        <button type="button" disabled={busy} onClick={() => void attempt(() => undefined)}>
          Try the link
        </button>
        <button type="button" disabled={busy} onClick={() => void attempt(follow)}>
          Download by it
        </button>
        <span class="hint">Each is one of its uses.</span>
      </div>
      <ol class="tries" aria-label="Tries" aria-live="polite">
        {tries.map((one, at) => (
          <li key={tries.length - at}>
            <Moment at={one.at} />{" "}
            {one.until ? (
              <>
                <Answer good>200</Answer> a URL of S3,{" "}
                <span aria-live="off">
                  {Date.parse(one.until) > now
                    ? `valid for ${Math.ceil((Date.parse(one.until) - now) / 1000)} s more`
                    : "which has run out"}
                </span>
              </>
            ) : one.problem instanceof ProblemError ? (
              <>
                <Answer>
                  {one.problem.problem.status} {one.problem.kind}
                </Answer>{" "}
                {one.problem.message}
              </>
            ) : (
              <>
                <Answer>no answer</Answer> {String((one.problem as Error).message)}
              </>
            )}
          </li>
        ))}
      </ol>
    </div>
  );
}

export function Answer({ good = false, children }: { good?: boolean; children: ComponentChildren }) {
  return <strong class={good ? "status delivered" : "status failed"}>{children}</strong>;
}

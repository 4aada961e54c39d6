/** Webhooks: where events are sent to, and the log of every attempt. */
import { useState } from "preact/hooks";
import { api, must, UnreachableError, type Schemas } from "../api/client";
import { deployment } from "../api/deployment";
import { may } from "../api/session";
import { Act } from "../parts/act";
import { useEvery, useNow } from "../parts/clock";
import { notify } from "../parts/notices";
import { Once } from "../parts/once";
import { usePages } from "../parts/pages";
import { useResource } from "../parts/resource";
import { duration, Id, Moment, Status } from "../parts/show";
import { Empty, Failure, Loading } from "../parts/states";
import { Table } from "../parts/table";
import { go, to } from "../route";

type Webhook = Schemas["Webhook"];
type Delivery = Schemas["Delivery"];
const REFRESH = 3_000;

export function Webhooks({ parts }: { parts: string[] }) {
  return parts[0] ? <OneWebhook key={parts[0]} id={parts[0]} /> : <List />;
}

function List() {
  const found = usePages("webhooks", () => must(api().GET("/webhooks")));
  useEvery(REFRESH, found.refresh);
  const [made, setMade] = useState<Schemas["WebhookWithSecret"] | null>(null);
  return (
    <>
      <h1>Webhooks</h1>
      <p class="hint">
        Your events, sent to an endpoint of yours as they happen: signed, in order within a saga, and again where that fails.
      </p>
      {may("webhooks:write") && (
        <Registering
          done={(webhook) => {
            setMade(webhook);
            void found.reload();
          }}
          unsure={() => void found.reload()}
        />
      )}
      {made && <Secret key={made.secret} of={made} close={() => setMade(null)} />}
      <h2>Your webhooks</h2>
      {found.problem !== undefined && <Failure problem={found.problem} again={() => void found.reload()} />}
      {!found.items ? (
        found.problem === undefined && <Loading what="Webhooks" />
      ) : found.items.length === 0 ? (
        <Empty>
          <p>{may("webhooks:write") ? "There is no webhook yet: register one." : "There is no webhook."}</p>
        </Empty>
      ) : (
        <Table label="Webhooks" head={["Endpoint", "Status", "Events", "Failing since", "Registered"]}>
          {found.items.map((one) => (
            <tr key={one.webhook_id}>
              <td>
                <a href={to(["webhooks", one.webhook_id])}>{one.url}</a>
              </td>
              <td>
                <Status status={one.status} />
                {one.disabled_reason && <div class="hint">{one.disabled_reason}</div>}
              </td>
              <td>{kinds(one)}</td>
              <td>{one.failing_since ? <Moment at={one.failing_since} /> : "–"}</td>
              <td>
                <Moment at={one.created_at} />
              </td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}

const kinds = ({ events }: Webhook): string => (events.includes("*") ? "all" : events.join(", "));

function Registering({ done, unsure }: { done: (made: Schemas["WebhookWithSecret"]) => void; unsure: () => void }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>();
  const possible = useResource("kinds", async () => ["*", ...(await deployment()).sagas.map(({ name }) => `recourse.${name}.*`)]);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    if (busy) return;
    const form = event.currentTarget as HTMLFormElement;
    const given = new FormData(form);
    const events = String(given.get("events") ?? "")
      .split(/[\s,]+/)
      .filter(Boolean);
    setBusy(true);
    setProblem(undefined);
    try {
      done(await must(api().POST("/webhooks", { body: { url: String(given.get("url")), events: events.length ? events : null } })));
      form.reset();
    } catch (caught) {
      const unclear = caught instanceof UnreachableError;
      setProblem(
        unclear
          ? new Error("No answer came: it may be registered. If it is among your webhooks, rotate its secret to see one.")
          : caught,
      );
      unsure();
    } finally {
      setBusy(false);
    }
  };
  return (
    <section aria-labelledby="register">
      <h2 id="register">Register an endpoint</h2>
      <form class="filters" onSubmit={submit}>
        <label class="wide">
          URL
          <input name="url" type="url" required maxLength={2000} placeholder="https://example.com/hooks" />
        </label>
        <label class="wide">
          Types of events, all by default
          <input name="events" list="kinds" placeholder="recourse.order.*" autocomplete="off" spellcheck={false} />
        </label>
        <datalist id="kinds">
          {(possible.data ?? []).map((kind) => (
            <option key={kind} value={kind} />
          ))}
        </datalist>
        <button type="submit" class="first" disabled={busy}>
          Register
        </button>
      </form>
      {problem !== undefined && <Failure problem={problem} />}
    </section>
  );
}

function Secret({ of: webhook, close }: { of: Schemas["WebhookWithSecret"]; close: () => void }) {
  return (
    <section class="card" aria-label="The secret">
      <p>
        <strong>Copy it now:</strong> the secret of <code>{webhook.url}</code> is shown only once.
      </p>
      <Once label="Secret" value={webhook.secret} />
      <p>To verify a call, before anything is done with it:</p>
      <ol>
        <li>
          Decode by Base64 what follows <code>whsec_</code>: that is the key.
        </li>
        <li>
          Take HMAC-SHA256 by it of <code>webhook-id</code>, <code>webhook-timestamp</code> and the body as it came, with a full
          stop between them, and encode that by Base64.
        </li>
        <li>
          One of the signatures in <code>webhook-signature</code>, each after <code>v1,</code>, must be the same; compare in
          constant time.
        </li>
        <li>
          Refuse a <code>webhook-timestamp</code> that is more than five minutes off, and do nothing twice for the same{" "}
          <code>webhook-id</code>.
        </li>
      </ol>
      <p class="hint">
        It is Standard Webhooks: there are libraries for many languages. docs/webhooks.md has a receiver in Python and one in Node.
      </p>
      <div class="buttons">
        <button type="button" class="quiet" onClick={close}>
          I have it
        </button>
      </div>
    </section>
  );
}

function OneWebhook({ id }: { id: string }) {
  const path = { path: { webhook_id: id } };
  const log = usePages(id, async (cursor) => {
    const query = { limit: 50, ...(cursor ? { cursor } : {}) };
    const [webhook, page] = await Promise.all([
      must(api().GET("/webhooks/{webhook_id}", { params: path })),
      must(api().GET("/webhooks/{webhook_id}/deliveries", { params: { ...path, query } })),
    ]);
    return { ...page, webhook };
  });
  const [made, setMade] = useState<Schemas["WebhookWithSecret"] | null>(null);
  useEvery(REFRESH, log.refresh);
  const changed = () => void log.reload();
  const webhook = log.first?.webhook;
  const failure = log.problem !== undefined && <Failure problem={log.problem} again={changed} />;
  const back = (
    <p>
      <a href={to(["webhooks"])}>Webhooks</a>
    </p>
  );
  if (!webhook)
    return (
      <>
        {back}
        <h1>A webhook</h1>
        {failure || <Loading what="The webhook" />}
      </>
    );
  return (
    <>
      {back}
      <h1>{webhook.url}</h1>
      {failure}
      <dl class="facts">
        <dt>Status</dt>
        <dd>
          <Status status={webhook.status} />
          {webhook.disabled_at && (
            <>
              {" "}
              since <Moment at={webhook.disabled_at} />: {webhook.disabled_reason}
            </>
          )}
        </dd>
        <dt>Events</dt>
        <dd>{kinds(webhook)}</dd>
        <dt>Failing since</dt>
        <dd>{webhook.failing_since ? <Moment at={webhook.failing_since} /> : "it does not fail"}</dd>
        <dt>Id</dt>
        <dd>
          <Id id={webhook.webhook_id} />
        </dd>
        <dt>Registered</dt>
        <dd>
          <Moment at={webhook.created_at} />
        </dd>
      </dl>
      {may("webhooks:write") && <Acts on={webhook} changed={changed} made={setMade} />}
      {made && <Secret key={made.secret} of={made} close={() => setMade(null)} />}
      <h2>Deliveries</h2>
      {log.items?.length ? (
        <Log of={log.items} replay={may("webhooks:write") && webhook.status === "ENABLED" ? id : null} changed={changed} />
      ) : (
        <Empty>
          <p>Nothing has been sent yet.</p>
        </Empty>
      )}
      {log.more && (
        <button type="button" onClick={() => void log.next()}>
          Older deliveries
        </button>
      )}
    </>
  );
}

/** A moment as a field for local times has it. */
function local(at: number): string {
  return new Date(at - new Date(at).getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

function Acts({
  on: webhook,
  changed,
  made,
}: {
  on: Webhook;
  changed: () => void;
  made: (webhook: Schemas["WebhookWithSecret"]) => void;
}) {
  const params = { path: { webhook_id: webhook.webhook_id } };
  const [from, setFrom] = useState(() => local(Date.now() - 3_600_000));
  const [until, setUntil] = useState("");
  const replay = async () => {
    const body = { from: new Date(from).toISOString(), to: (until ? new Date(until) : new Date()).toISOString() };
    await must(api().POST("/webhooks/{webhook_id}/replay", { params, body }));
    notify("They are sent again.");
    changed();
  };
  return (
    <div class="buttons">
      <Act
        title="Send a test event"
        act={async () => {
          await must(api().POST("/webhooks/{webhook_id}/test", { params }));
          notify("The test event is on its way.");
          changed();
        }}
      >
        <p>
          One event <code>recourse.webhook.test</code>, sent once: also to a webhook that is disabled.
        </p>
      </Act>
      {webhook.status === "DISABLED" ? (
        <Act
          title="Enable"
          act={async () => {
            await must(api().POST("/webhooks/{webhook_id}/enable", { params }));
            notify("It is enabled, from now on.");
            changed();
          }}
        >
          <p>It receives the events from now on. What it has missed can be replayed.</p>
        </Act>
      ) : (
        <Act title="Replay" act={replay}>
          <p>Events between two moments are sent again, with the same id. The feed has those of 14 days.</p>
          <label>
            From
            <input type="datetime-local" step={1} required value={from} onInput={(event) => setFrom(event.currentTarget.value)} />
          </label>
          <label>
            To, now by default
            <input type="datetime-local" step={1} value={until} onInput={(event) => setUntil(event.currentTarget.value)} />
          </label>
        </Act>
      )}
      <Act
        title="Rotate the secret"
        act={async () => {
          made(await must(api().POST("/webhooks/{webhook_id}/rotate", { params })));
          changed();
        }}
      >
        <p>A new secret is made, and shown once. The one before it signs too, for 24 hours.</p>
      </Act>
      <Act
        title="Delete"
        danger
        act={async () => {
          await must(api().DELETE("/webhooks/{webhook_id}", { params }));
          notify("It is deleted.");
          go(to(["webhooks"]), { replace: true });
        }}
      >
        <p>
          Nothing more is sent to <code>{webhook.url}</code>, and its log is gone.
        </p>
      </Act>
    </div>
  );
}

function Log({ of: deliveries, replay, changed }: { of: Delivery[]; replay: string | null; changed: () => void }) {
  const now = useNow();
  return (
    <Table label="Deliveries" head={["At", "Event", "Attempt", "Outcome", "Answer", "Took", "Next attempt"]}>
      {deliveries.map((one) => (
        <tr key={`${one.event_id} ${one.at} ${one.attempt}`}>
          <td>
            <Moment at={one.at} />
          </td>
          <td>
            {one.type.startsWith("recourse.webhook.") ? (
              one.type
            ) : (
              <a href={to(["sagas", one.event_id.split(".")[0] ?? ""])}>{one.type}</a>
            )}
            {one.replay_id && <div class="hint">replayed</div>}
          </td>
          <td>{one.attempt}</td>
          <td>
            <Status status={one.outcome} />
          </td>
          <td>
            {one.status ?? one.error}
            {one.status !== null && one.error && `: ${one.error}`}
            {one.response && (
              <details>
                <summary>What it said</summary>
                <pre class="json">{one.response}</pre>
              </details>
            )}
          </td>
          <td>{duration(one.latency_ms)}</td>
          <td>
            {one.next_attempt_at && (
              <time dateTime={one.next_attempt_at} title={one.next_attempt_at}>
                {Date.parse(one.next_attempt_at) > now ? `in ${duration(Date.parse(one.next_attempt_at) - now)}` : "has been due"}
              </time>
            )}
            {replay && !one.next_attempt_at && !one.type.startsWith("recourse.webhook.") && (
              <Again webhook={replay} event={one.event_id} changed={changed} />
            )}
          </td>
        </tr>
      ))}
    </Table>
  );
}

function Again({ webhook, event, changed }: { webhook: string; event: string; changed: () => void }) {
  const [busy, setBusy] = useState(false);
  const again = async () => {
    setBusy(true);
    try {
      await must(
        api().POST("/webhooks/{webhook_id}/replay", { params: { path: { webhook_id: webhook } }, body: { event_id: event } }),
      );
      notify("It is sent again.");
      changed();
    } catch (problem) {
      notify(problem instanceof Error ? problem.message : String(problem));
    } finally {
      setBusy(false);
    }
  };
  return (
    <button type="button" class="quiet" disabled={busy} aria-label={`Send again: ${event}`} onClick={() => void again()}>
      Send again
    </button>
  );
}

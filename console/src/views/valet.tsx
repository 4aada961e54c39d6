/** Valet keys: documents sent up by them, links lent by them, and what was done with each. */
import { useRef, useState } from "preact/hooks";
import { api, must, type Schemas } from "../api/client";
import { Act } from "../parts/act";
import { size, useEvery, useNow } from "../parts/clock";
import { notify } from "../parts/notices";
import { usePages } from "../parts/pages";
import { duration, Id, Moment, Status } from "../parts/show";
import { Empty, Failure, Loading } from "../parts/states";
import { Table } from "../parts/table";
import { to } from "../route";
import { Download } from "./valet/download";
import { Answer, held, Lending, Lent, Trying } from "./valet/lending";
import { Sending } from "./valet/sending";

type Key = Schemas["ShownKey"];
type Issued = Schemas["IssuedKey"];
const REFRESH = 5_000;

export function ValetKeys({ parts }: { parts: string[] }) {
  if (parts[0]) return <OneKey key={parts[0]} id={parts[0]} />;
  return <Keys />;
}

function Keys() {
  const keys = usePages("keys", (cursor) =>
    must(api().GET("/valet-keys", { params: { query: { limit: 20, ...(cursor ? { cursor } : {}) } } })),
  );
  useEvery(REFRESH, keys.refresh);
  const [lent, setLent] = useState<Issued | null>(null);
  return (
    <>
      <h1>Valet keys</h1>
      <p class="hint">
        A valet key lets a person without an account upload one document, or download one, for a limited time. It can be revoked.
      </p>
      <Sending changed={() => void keys.reload()} />
      <Lending
        objects={[
          ...new Set(
            (keys.items ?? [])
              .filter(({ operation, status }) => operation === "upload" && status === "COMPLETED")
              .map(({ object }) => object),
          ),
        ]}
        done={(issued) => {
          held.value = { ...held.value, [issued.key_id]: issued.token };
          setLent(issued);
          void keys.reload();
        }}
        unsure={() => void keys.reload()}
      />
      {lent && <Lent key={lent.key_id} issued={lent} close={() => setLent(null)} />}
      <h2>Your keys</h2>
      {keys.problem !== undefined && <Failure problem={keys.problem} again={() => void keys.reload()} />}
      {!keys.items ? (
        keys.problem === undefined && <Loading what="Valet keys" />
      ) : keys.items.length === 0 ? (
        <Empty>
          <p>There is no valet key yet: upload a file, or issue a link.</p>
        </Empty>
      ) : (
        <Table label="Valet keys" head={["Object", "For", "Status", "Uses", "Expires", "Issued"]}>
          {keys.items.map((key) => (
            <tr key={key.key_id}>
              <td>
                <a href={to(["valet-keys", key.key_id])}>{key.object}</a>
              </td>
              <td>{key.operation}</td>
              <td>
                <Status status={key.status} />
              </td>
              <td>{uses(key)}</td>
              <td>
                <Expiry of={key} />
              </td>
              <td>
                <Moment at={key.created_at} />
              </td>
            </tr>
          ))}
        </Table>
      )}
      {keys.more && (
        <button type="button" onClick={() => void keys.next()}>
          Older keys
        </button>
      )}
    </>
  );
}

const uses = (key: Key): string =>
  key.multipart ? `${key.parts_redeemed} for ${key.multipart.parts} parts` : `${key.uses} of ${key.max_uses}`;

function Expiry({ of: key }: { of: Key }) {
  const left = Date.parse(key.expires_at) - useNow();
  if (key.status !== "ACTIVE" && key.status !== "USED_UP") return <Moment at={key.expires_at} />;
  return (
    <time dateTime={key.expires_at} title={key.expires_at}>
      {left > 0 ? `in ${duration(left)}` : "now"}
    </time>
  );
}

function OneKey({ id }: { id: string }) {
  const trail = usePages(id, async (cursor) => {
    const found = await must(
      api().GET("/valet-keys/{key_id}", { params: { path: { key_id: id }, query: { limit: 50, ...(cursor ? { cursor } : {}) } } }),
    );
    return { ...found, items: found.audit };
  });
  useEvery(REFRESH, trail.refresh);
  const key = trail.first;
  const failure = trail.problem !== undefined && <Failure problem={trail.problem} again={() => void trail.reload()} />;
  const back = (
    <p>
      <a href={to(["valet-keys"])}>Valet keys</a>
    </p>
  );
  if (!key)
    return (
      <>
        {back}
        <h1>A valet key</h1>
        {failure || <Loading what="The key" />}
      </>
    );
  return (
    <>
      {back}
      <h1>
        {key.operation === "upload" ? "Upload" : "Download"} of {key.object}
      </h1>
      {failure}
      <dl class="facts">
        <dt>Status</dt>
        <dd>
          <Status status={key.status} />
        </dd>
        <dt>Key</dt>
        <dd>
          <Id id={key.key_id} />
        </dd>
        <dt>Uses</dt>
        <dd>{uses(key)}</dd>
        <dt>Issued</dt>
        <dd>
          <Moment at={key.created_at} />
        </dd>
        <dt>Expires</dt>
        <dd>
          <Expiry of={key} />
        </dd>
        {key.revoked_at && (
          <>
            <dt>Revoked</dt>
            <dd>
              <Moment at={key.revoked_at} />
            </dd>
          </>
        )}
        {Object.entries({ ...key.upload, ...key.outcome } as Record<string, unknown>)
          .filter(([name]) => !["key_id", "object"].includes(name))
          .map(([name, value]) => (
            <>
              <dt key={name}>{name.replaceAll("_", " ")}</dt>
              <dd>{name === "content_length" ? `${size(Number(value))}` : String(value)}</dd>
            </>
          ))}
      </dl>
      <div class="buttons">
        {key.status === "COMPLETED" && key.operation === "upload" && <Download object={key.object} />}
        <Revoking of={key} done={() => void trail.reload()} />
      </div>
      {key.operation === "download" && <Holding id={id} tried={() => void trail.reload()} />}
      <h2>What was done with it</h2>
      <Table label="Audit trail" head={["Time", "Action", "Outcome", "By", "From", "Detail"]}>
        {(trail.items ?? []).map((row, at) => (
          <tr key={at}>
            <td>
              <Moment at={row.time} />
            </td>
            <td>{row.action}</td>
            <td>
              <Answer good={row.outcome === "allowed"}>{row.outcome}</Answer>
              {(row.count ?? 1) > 1 && ` ${row.count} times`}
              {row.last_time && (row.count ?? 1) > 1 && (
                <>
                  , last <Moment at={row.last_time} />
                </>
              )}
            </td>
            <td>{row.caller}</td>
            <td>{row.address}</td>
            <td>{row.detail}</td>
          </tr>
        ))}
      </Table>
      {trail.more && (
        <button type="button" onClick={() => void trail.next()}>
          Older entries
        </button>
      )}
    </>
  );
}

function Revoking({ of: key, done }: { of: Key; done: () => void }) {
  const withdraw = useRef<HTMLInputElement>(null);
  const visible = key.operation === "download" || key.status === "COMPLETED";
  if (key.status === "REVOKED" && !visible) return null;
  const revoke = async (withdrawing: boolean) => {
    await must(
      api().DELETE("/valet-keys/{key_id}", {
        params: { path: { key_id: key.key_id }, query: { withdraw: withdrawing ? "true" : "false" } },
      }),
    );
    notify(withdrawing ? "Revoked, and the document is withdrawn." : "Revoked.");
    done();
  };
  return (
    <>
      {key.status !== "REVOKED" && (
        <Act title="Revoke" danger act={() => revoke(withdraw.current?.checked ?? false)}>
          <p>From now on the key opens nothing. A URL that it has opened is valid for ten seconds at most.</p>
          {visible && (
            <label class="inline">
              <input type="checkbox" ref={withdraw} />
              Withdraw the document too: no key opens it any more
            </label>
          )}
        </Act>
      )}
      {key.status === "REVOKED" && visible && (
        <Act title="Withdraw the document" danger act={() => revoke(true)}>
          <p>No key opens it any more, and every URL to it ends at once.</p>
        </Act>
      )}
    </>
  );
}

/** The token of a key, if this page has it or its holder gives it: to see what it does. */
function Holding({ id, tried }: { id: string; tried: () => void }) {
  const token = held.value[id];
  if (token) return <Trying token={token} tried={tried} />;
  return (
    <form
      class="filters"
      onSubmit={(event) => {
        event.preventDefault();
        const given = String(new FormData(event.currentTarget).get("token") ?? "").trim();
        held.value = { ...held.value, [id]: decodeURIComponent(given.split("/v/").at(-1) ?? "") };
      }}
    >
      <label>
        Its link or token, to try it: it was shown only when it was issued
        <input name="token" required autocomplete="off" spellcheck={false} />
      </label>
      <button type="submit">Use it</button>
    </form>
  );
}

/** What sagas have left to people: what waits, what it is about, and deciding it, once. */
import { useEffect, useRef } from "preact/hooks";
import { call, ProblemError, UnreachableError, type Schemas } from "../api/client";
import { deployment, type Decided } from "../api/deployment";
import { isOperator, may, session } from "../api/session";
import { Act } from "../parts/act";
import { useEvery, useNow } from "../parts/clock";
import { Facts } from "../parts/facts";
import { useKept } from "../parts/kept";
import { notify } from "../parts/notices";
import { usePages } from "../parts/pages";
import { useResource } from "../parts/resource";
import { duration, Id, Moment, Status } from "../parts/show";
import { useEvents } from "../parts/soon";
import { Empty, Failure, Loading } from "../parts/states";
import { to } from "../route";

type Question = Schemas["Question"];
interface Page {
  items: Question[];
  cursor: string | null;
}
/** A question that is not open any more, and why it was not this user's answer that counts. */
interface Closed {
  question: Question;
  why?: string | undefined;
}

/** Who is not asked by name hears no event of a question: the list is asked for again after so many milliseconds. */
const IDLE = 10_000;
const KEPT = 50;
/** Under so many milliseconds it is urgent. */
const URGENT = 3_600_000;

/** Who may see questions; who has the scope decides them too. */
const sees = ({ scope }: Decided): boolean => may(scope) || isOperator.value;

export function Decisions({ parts: [name, id] }: { parts: string[] }) {
  const { data, problem, reload } = useResource("deployment", deployment);
  if (problem !== undefined) return <Failure problem={problem} again={reload} />;
  if (!data) return <Loading what="Decisions" />;
  const scopes = [...new Set(data.decided.map(({ scope }) => scope))];
  const seen = data.decided.filter((one) => sees(one) && (name === undefined || one.name === name));
  return (
    <>
      <h1>{name ? <a href={to(["decisions"])}>Decisions</a> : "Decisions"}</h1>
      {data.decided.length === 0 ? (
        <Empty>No saga of this deployment leaves a decision to people.</Empty>
      ) : seen.length === 0 ? (
        <Empty>{name && !data.decided.some((one) => one.name === name) ? `Nothing that is decided here is called ${name}.` : `Whoever has the scope ${scopes.join(" or ")} decides; you are signed in without it.`}</Empty>
      ) : (
        seen.map((of) => (id ? <One key={id} of={of} id={id} /> : <Open key={of.name} of={of} />))
      )}
    </>
  );
}

/** What waits, and below it what this user has closed in this tab: the API lists what is open. */
function Open({ of }: { of: Decided }) {
  const [closed, setClosed] = useKept<Closed[]>(`decided.${of.name}`, () => []);
  const { items, problem, more, next, reload, refresh } = usePages<Page>(
    of.name,
    async (cursor) => (await call("GET", `/${of.name}?status=open${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`)) as Page,
  );
  useEvery(IDLE, refresh);
  useEvents(() => void refresh());
  const close = (one: Closed) => {
    setClosed((before) => [one, ...before.filter(({ question }) => question.id !== one.question.id)].slice(0, KEPT));
    void reload();
  };
  const gone = new Set(closed.map(({ question }) => question.id));
  const open = items?.filter(({ id }) => !gone.has(id));
  return (
    <section aria-label={of.name}>
      <h2>{of.name}</h2>
      {problem !== undefined && <Failure problem={problem} again={() => void reload()} />}
      {!open ? (
        problem === undefined && <Loading what={of.name} />
      ) : open.length === 0 ? (
        <Empty>None of the {of.name} waits for a decision.</Empty>
      ) : (
        <div class="cards wide">
          {open.map((question) => (
            <Card key={question.id} of={of} question={question} close={close} />
          ))}
        </div>
      )}
      {more && (
        <button type="button" onClick={() => void next()}>
          More
        </button>
      )}
      {closed.length > 0 && (
        <details open>
          <summary>Closed in this tab ({closed.length})</summary>
          <div class="cards wide">
            {closed.map(({ question, why }) => (
              <Card key={question.id} of={of} question={question} why={why} />
            ))}
          </div>
        </details>
      )}
    </section>
  );
}

function One({ of, id }: { of: Decided; id: string }) {
  const path = `/${of.name}/${encodeURIComponent(id)}`;
  const [why, setWhy] = useKept<string | null>(`why.${path}`, () => null);
  const { data, problem, reload } = useResource(path, async (stop) => (await call("GET", path, undefined, {}, stop)) as Question);
  useEvery(IDLE, reload);
  useEvents(reload, ({ subject }) => subject === id);
  if (problem !== undefined && !data) {
    const none = problem instanceof ProblemError && problem.problem.status === 404;
    return none ? <Empty>There is no such question, or it is put to somebody else.</Empty> : <Failure problem={problem} again={reload} />;
  }
  if (!data) return <Loading what="The question" />;
  return (
    <div class="cards wide">
      <Card of={of} question={data} why={why ?? undefined} close={({ why: said }) => (setWhy(() => said ?? null), reload())} />
    </div>
  );
}

function Card({ of, question, why, close }: { of: Decided; question: Question; why?: string | undefined; close?: (closed: Closed) => void }) {
  const { id, saga, step, status, about, asked_at, answer_by, reminded_at, decided } = question;
  const box = useRef<HTMLElement>(null);
  const isOpen = status === "open";
  const before = useRef(isOpen);
  useEffect(() => {
    if (before.current && !isOpen) box.current?.focus();
    before.current = isOpen;
  }, [isOpen]);
  const mine = question.to === null || question.to === session.value?.subject;
  return (
    <article class="card" ref={box} tabIndex={-1} aria-label={`${saga}: ${step} ${id}`}>
      <h3 class="flush">
        <a href={to(["decisions", of.name, id])}>
          {saga}: {step}
        </a>{" "}
        <Status status={status} />
      </h3>
      {why && <p class="hint">{why}</p>}
      {decided && (
        <p>
          {decided.by} has {decided.decision === "approve" ? "approved" : "rejected"} it, <Moment at={decided.at} />
          {decided.reason && `: ${decided.reason}`}
        </p>
      )}
      {status === "expired" && <p>Nobody has decided it in time: the saga is undone.</p>}
      {status === "withdrawn" && <p>It was withdrawn: its saga is being undone, or has been.</p>}
      <Facts of={about} />
      <dl class="facts">
        <dt>Id</dt>
        <dd>
          <Id id={id} />
        </dd>
        <dt>Asked</dt>
        <dd>
          <Moment at={asked_at} />
          {may("sagas:read") && (
            <>
              {" "}
              by <a href={to(["sagas", id])}>its saga</a>
            </>
          )}
        </dd>
        {question.to !== null && (
          <>
            <dt>Put to</dt>
            <dd>{question.to}</dd>
          </>
        )}
        <dt>Answer by</dt>
        <dd>
          <Moment at={answer_by} /> {isOpen && <Left until={answer_by} />}
        </dd>
        {reminded_at !== null && (
          <>
            <dt>Reminded</dt>
            <dd>
              <Moment at={reminded_at} />
            </dd>
          </>
        )}
      </dl>
      {isOpen && close && may(of.scope) && mine && (
        <div class="buttons">
          <Act title="Approve" reason="optional" act={async (reason) => close(await decide(of, question, "approve", reason))}>
            <p>The saga goes on. It is decided once: nobody can take that back.</p>
          </Act>
          <Act title="Reject" reason="required" danger act={async (reason) => close(await decide(of, question, "reject", reason))}>
            <p>The step fails with your reason, and the saga is undone. It is decided once: nobody can take that back.</p>
          </Act>
        </div>
      )}
      {isOpen && !mine && <p class="hint">{question.to} alone decides it.</p>}
    </article>
  );
}

function Left({ until }: { until: string }) {
  const left = Date.parse(until) - useNow();
  return <span class={left < URGENT ? "invalid" : "hint"}>{left > 0 ? `in ${duration(left)}` : "its time is up"}</span>;
}

/** Decide it; where somebody else was first, or no answer came, as it is now.
 *
 * @throws what kept it from being decided: then it is open still.
 */
async function decide(of: Decided, { id }: Question, decision: "approve" | "reject", reason: string): Promise<Closed> {
  const path = `/${of.name}/${encodeURIComponent(id)}`;
  try {
    const question = (await call("POST", `${path}/decision`, { decision, ...(reason ? { reason } : {}) })) as Question;
    notify(decision === "approve" ? "Approved." : "Rejected.");
    return { question };
  } catch (problem) {
    const late = problem instanceof ProblemError && problem.kind === "not-open";
    const uncertain = problem instanceof UnreachableError || (problem instanceof ProblemError && problem.problem.status >= 500);
    if (!late && !uncertain) throw problem;
    const question = (await call("GET", path)) as Question;
    if (late) {
      const why = `It was not open any more, so yours does not count: ${problem.message}.`;
      notify(why);
      return { question, why };
    }
    if (question.status === "open") throw new Error("No answer came, and it is still open: it was not decided. You can try again.");
    return { question, why: "No answer came to yours; this is how it stands." };
  }
}

/** One saga: what it is at, why, what was undone, what remains, and what can be done. */
import { useEffect } from "preact/hooks";
import { api, must, online, ProblemError, type Saga } from "../api/client";
import { useNow } from "../parts/clock";
import { duration, Id, Json, Moment, Status } from "../parts/show";
import { Failure, Loading } from "../parts/states";
import { useResource } from "../parts/resource";
import { to } from "../route";
import { Acts } from "./saga/acts";
import { Events } from "./saga/events";
import { Graph } from "./saga/graph";
import { Timeline } from "./saga/timeline";
import { Trace } from "./saga/trace";
import { OVER, useSaga } from "./saga/watch";
import { inWords, remains, type Declaration } from "./saga/words";

export function OneSaga({ id }: { id: string }) {
  const { seen, events, problem, reload } = useSaga(id);
  const known = useResource(seen ? id : "", async (stop) =>
    seen && (await must(api().GET("/sagas/{saga_id}/declaration", { params: { path: { saga_id: id } }, signal: stop }))),
  );
  const declaration: Declaration | undefined = known.data;
  const goesOn = seen !== undefined && !OVER.includes(seen.saga.status);
  const now = useNow(500, goesOn);
  const title = seen && `${seen.saga.business_key}: ${seen.saga.status} · Recourse`;
  useEffect(() => void (title && (document.title = title)), [title]);

  if (!seen) return problem === undefined ? <Loading what="the saga" /> : <Unseen id={id} problem={problem} again={() => void reload()} />;
  const { saga } = seen;
  const more = remains(saga, declaration);
  return (
    <article class="saga">
      <h1>
        {saga.business_key} <Status status={saga.status} />
      </h1>
      <div id="remains" tabIndex={-1} class={`remains ${more.tone}`}>
        <p role="status">
          {more.text}
          {more.until && (
            <>
              {" until "}
              <Moment at={more.until} />
            </>
          )}
        </p>
        {more.until && <p class="hint">{Date.parse(more.until) > now ? `in ${duration(Date.parse(more.until) - now)}` : "which is now"}</p>}
        {more.more && <p>{more.more}</p>}
        {saga.reason && !(saga.status === "RUNNING" && saga.stuck.includes(saga.reason.step)) && <Reason reason={saga.reason} />}
      </div>
      {problem !== undefined && <Failure problem={problem} again={() => void reload()} />}
      {!online.value && <p class="hint">The API cannot be reached: this is what was last seen.</p>}
      <Acts seen={seen} declaration={declaration} reload={reload} />
      <Facts saga={saga} declaration={declaration} now={now} />
      <section aria-labelledby="timeline">
        <h2 id="timeline">Timeline</h2>
        <Timeline saga={saga} events={events} declaration={declaration} now={now} />
      </section>
      <section aria-labelledby="declaration">
        <h2 id="declaration">What it began with</h2>
        {declaration ? <Graph saga={saga} declaration={declaration} /> : known.problem ? <Failure problem={known.problem} again={known.reload} /> : <Loading what="its declaration" />}
      </section>
      <section aria-labelledby="results">
        <h2 id="results">Results</h2>
        <Results saga={saga} />
      </section>
      <section aria-labelledby="events">
        <h2 id="events">Events</h2>
        <Events saga={saga} events={events} />
      </section>
      <section aria-labelledby="trace">
        <h2 id="trace">Trace</h2>
        <Trace saga={saga} events={events} />
      </section>
    </article>
  );
}

function Reason({ reason }: { reason: NonNullable<Saga["reason"]> }) {
  return (
    <p>
      {reason.error === "StepCancelledError" ? `Before ${reason.step}: ` : `Because ${reason.step} failed: `}
      <strong>{inWords(reason.error)}</strong>
      {reason.message && `: ${reason.message}`} <code>{reason.error}</code>
    </p>
  );
}

/** The links of a saga that are shown otherwise. */
const OWN = ["self", "cancel", "reverse", "reverses", "reversed_by"];

function Facts({ saga, declaration, now }: { saga: Saga; declaration: Declaration | undefined; now: number }) {
  const end = saga.ended_at ? Date.parse(saga.ended_at) : now;
  const documents = Object.entries(saga.links).filter(([name, link]) => !OWN.includes(name) && /^https?:/.test(link));
  const other = (id: string) => <a href={to(["sagas", id])}>{id}</a>;
  return (
    <dl class="brief">
      <Fact name="Saga">{saga.saga}</Fact>
      <Fact name="Coordination">{saga.coordination}</Fact>
      <Fact name="Owner">{saga.owner}</Fact>
      <Fact name="Started">
        <Moment at={saga.started_at} />
      </Fact>
      {saga.begins_at && (
        <Fact name="Not before">
          <Moment at={saga.begins_at} />
        </Fact>
      )}
      {saga.ended_at && (
        <Fact name="Ended">
          <Moment at={saga.ended_at} />
        </Fact>
      )}
      <Fact name={saga.ended_at ? "Took" : "For"}>{duration(end - Date.parse(saga.started_at))}</Fact>
      {declaration && <Fact name="Deadline of the pivot">{duration(declaration.deadline * 1000)} after its beginning</Fact>}
      {saga.reverses && (
        <Fact name="Reverses">
          {other(saga.reverses.saga_id)}, asked for by {saga.reverses.by}
          {saga.reverses.reason && `: ${saga.reverses.reason}`}
        </Fact>
      )}
      {saga.reversed_by && <Fact name="Reversed by">{other(saga.reversed_by)}</Fact>}
      {documents.length > 0 && (
        <Fact name="Documents">
          {documents.map(([name, link]) => (
            <a key={name} href={link} rel="noreferrer">
              {name}
            </a>
          ))}
        </Fact>
      )}
      <Fact name="Id">
        <Id id={saga.saga_id} />
      </Fact>
      <Fact name="Command">
        <Id id={`recourse show ${saga.saga_id}`} />
      </Fact>
    </dl>
  );
}

function Fact({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** What the steps have returned, and what a decision is about. */
function Results({ saga }: { saga: Saga }) {
  const some = saga.steps.filter(({ result, question }) => question || (result !== null && result !== undefined));
  if (some.length === 0) return <p class="hint">No step has returned anything yet.</p>;
  return (
    <>
      {some.map(({ name, result, question }) => (
        <details key={name}>
          <summary>{question ? `${name}, which asks` : name}</summary>
          <Json of={question ?? result} />
        </details>
      ))}
    </>
  );
}

/** Why there is nothing to see. */
function Unseen({ id, problem, again }: { id: string; problem: unknown; again: () => void }) {
  const status = problem instanceof ProblemError ? problem.problem.status : 0;
  if (status !== 404 && status !== 410) return <Failure problem={problem} again={again} />;
  const words =
    status === 404
      ? "There is no saga of this id that you may see: it may be another owner's, or its data were erased, or it was kept no longer."
      : "Its owner's data have been erased, and with them what this saga was.";
  return (
    <>
      <Failure problem={new ProblemError({ type: "about:blank", title: "This saga cannot be shown", status, detail: words })} />
      <p>
        <code>{id}</code>
      </p>
      <a href={to(["sagas"])}>All sagas</a>
    </>
  );
}

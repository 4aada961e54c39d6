/** Dead letters: messages that nobody could handle, why, and sending them back once that is mended. */
import { useState } from "preact/hooks";
import { api, must, UnreachableError, type Schemas } from "../api/client";
import { Act } from "../parts/act";
import { useEvery } from "../parts/clock";
import { notify } from "../parts/notices";
import { usePages } from "../parts/pages";
import { Failure, Loading } from "../parts/states";
import { Table } from "../parts/table";
import { to } from "../route";

type Queue = Schemas["Deadletters"];
type Redriven = Schemas["Redriven"];
const REFRESH = 10_000;

export function DeadLetters() {
  const found = usePages("deadletters", () => must(api().GET("/deadletters")));
  useEvery(REFRESH, found.refresh);
  const reload = () => void found.reload();
  const queues = found.items;
  // A queue that was looked at stays in its place with what came of it.
  const [touched, setTouched] = useState<ReadonlySet<string>>(new Set());
  const shown = ({ name, waiting }: Queue) => waiting !== 0 || touched.has(name);
  const waiting = queues?.reduce((sum, { waiting }) => sum + (waiting ?? 0), 0) ?? 0;
  return (
    <>
      <h1>Dead letters</h1>
      <p class="hint">
        Messages that could not be handled wait here for two weeks. Look at them, mend the cause, and redrive them: they are handled
        again.
      </p>
      {found.problem !== undefined && <Failure problem={found.problem} again={reload} />}
      {!queues ? (
        found.problem === undefined && <Loading what="Dead letters" />
      ) : (
        <>
          <p role="status">
            {waiting === 0 ? "No message waits." : `${count(waiting, "message")} in all ${waiting === 1 ? "waits" : "wait"}.`}
            {queues.some((one) => one.waiting === null) && " Some queues are out of reach."}
          </p>
          <button type="button" onClick={reload}>
            Refresh
          </button>
          <ul class="queues" aria-label="Dead-letter queues">
            {queues
              .filter(shown)
              .sort((one, other) => (other.waiting ?? 0.5) - (one.waiting ?? 0.5))
              .map((queue) => (
                <li key={queue.name} class="card">
                  <OneQueue queue={queue} changed={reload} touched={() => setTouched(new Set([...touched, queue.name]))} />
                </li>
              ))}
          </ul>
          <details>
            <summary>{`${count(queues.length - queues.filter(shown).length, "empty queue")}`}</summary>
            <p>
              {queues
                .filter((queue) => !shown(queue))
                .map(({ name }) => name)
                .join(", ")}
            </p>
          </details>
        </>
      )}
    </>
  );
}

const count = (many: number, what: string): string => `${many.toLocaleString()} ${what}${many === 1 ? "" : "s"}`;

function OneQueue({ queue, changed, touched }: { queue: Queue; changed: () => void; touched: () => void }) {
  const [seen, setSeen] = useState<Redriven>();
  const [outcome, setOutcome] = useState<string>();
  const [problem, setProblem] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const look = async () => {
    touched();
    setBusy(true);
    setProblem(undefined);
    setOutcome(undefined);
    try {
      setSeen(await pass(queue.name, null, true));
    } catch (caught) {
      setProblem(caught);
    } finally {
      setBusy(false);
      changed();
    }
  };
  const redrive = async (saga: string | null) => {
    try {
      const done = await redriven(queue.name, saga, seen!.looked_at);
      setSeen(undefined);
      setOutcome(`${count(done.moved, "message")} redriven, ${done.left.toLocaleString()} left.`);
      notify(`${queue.name}: ${done.moved.toLocaleString()} redriven, ${done.left.toLocaleString()} left.`);
    } catch (caught) {
      if (!(caught instanceof UnreachableError)) throw caught;
      throw new Error("No answer came: some may have been redriven. Look again before you redrive more.");
    } finally {
      changed();
    }
  };
  const waits = queue.waiting ?? 0;
  return (
    <section aria-label={queue.name}>
      <h2>{queue.name}</h2>
      <p>
        {queue.waiting === null ? (
          <strong>Out of reach: how many messages wait is not known.</strong>
        ) : waits === 0 ? (
          "Empty."
        ) : (
          <strong>{`${count(waits, "message")} ${waits === 1 ? "waits" : "wait"}.`}</strong>
        )}{" "}
        {queue.redrives_to ? (
          <span class="hint">Redriven to {queue.redrives_to}.</span>
        ) : (
          <span class="hint">Cannot be redriven: {queue.why_not}</span>
        )}
      </p>
      {outcome && <p role="status">{outcome}</p>}
      {(queue.waiting !== 0 || seen) && queue.redrives_to && (
        <div class="buttons">
          <button type="button" disabled={busy} onClick={() => void look()}>
            {seen ? "Look again" : "Look"}
          </button>
          {seen && seen.matched > 0 && (
            <Act title="Redrive all" act={() => redrive(null)}>
              <p>
                {count(seen.matched, "message")} of <strong>{queue.name}</strong> {seen.matched === 1 ? "goes" : "go"} back to{" "}
                {queue.redrives_to}, to be handled again. What fails again comes back here.
              </p>
              {seen.looked_at < waits && (
                <p>{`${seen.looked_at.toLocaleString()} of ${waits.toLocaleString()} were looked at: only as many are redriven.`}</p>
              )}
            </Act>
          )}
        </div>
      )}
      {problem !== undefined && <Failure problem={problem} again={() => void look()} />}
      {seen && <Seen seen={seen} redrive={redrive} />}
    </section>
  );
}

function Seen({ seen, redrive }: { seen: Redriven; redrive: (saga: string | null) => Promise<void> }) {
  return (
    <>
      <p role="status">
        {seen.looked_at === 0 ? "No message was found." : `${count(seen.looked_at, "message")} looked at; none was moved.`}
      </p>
      {seen.reasons.length > 0 && (
        <Table label={`Reasons in ${seen.name}`} head={["Reason", "Messages"]}>
          {seen.reasons.map(({ reason, count: many }) => (
            <tr key={reason}>
              <td>{reason}</td>
              <td>{many.toLocaleString()}</td>
            </tr>
          ))}
        </Table>
      )}
      {seen.sagas.length > 0 && (
        <Table label={`Sagas in ${seen.name}`} head={["Saga", "Messages", <span class="unseen">What can be done</span>]}>
          {seen.sagas.map(({ saga_id, count: many }) => (
            <tr key={saga_id}>
              <td>{saga_id === null ? "of no saga" : <a href={to(["sagas", saga_id])}>{saga_id}</a>}</td>
              <td>{many.toLocaleString()}</td>
              <td>
                {saga_id !== null && (
                  <Act title="Redrive its own" act={() => redrive(saga_id)}>
                    <p>
                      {count(many, "message")} of the saga <code>{saga_id}</code> {many === 1 ? "goes" : "go"} back, to be handled
                      again.
                    </p>
                  </Act>
                )}
              </td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}

/** One pass through a queue: some of a long one. */
function pass(name: string, saga_id: string | null, dry_run: boolean): Promise<Redriven> {
  return must(api().POST("/deadletters/{name}/redrive", { params: { path: { name } }, body: { dry_run, saga_id } }));
}

/** Pass through a queue until all that waited is redriven: what is dead-lettered again meanwhile stays. */
async function redriven(name: string, saga: string | null, waited: number): Promise<Redriven> {
  const total = await pass(name, saga, false);
  for (let last = total; last.moved > 0 && last.left > 0 && total.looked_at < waited;) {
    last = await pass(name, saga, false);
    total.looked_at += last.looked_at;
    total.matched += last.matched;
    total.moved += last.moved;
    total.left = last.left;
  }
  return total;
}

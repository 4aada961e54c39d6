/** When each step acted, waited and was undone: a Gantt chart, and the same as a table. */
import type { Event, Saga } from "../../api/client";
import { duration, Moment, Status } from "../../parts/show";
import { axisOf, isWait, rowsOf, SORTS, type Axis, type Row, type Sort, type Span } from "./spans";
import { inWords, since, type Declaration } from "./words";

interface Shown {
  saga: Saga;
  events: Event[];
  declaration: Declaration | undefined;
  now: number;
}

/** So many attempts are drawn one by one; more are a number. */
const MOST_PIPS = 8;

export function Timeline({ saga, events, declaration, now }: Shown) {
  const rows = rowsOf(saga, events, declaration);
  const spans = rows.flatMap((row) => row.spans);
  if (spans.length === 0) return <p class="hint">No step has begun.</p>;
  const goesOn = spans.some(({ to }) => to === null);
  const begin = Date.parse(saga.started_at);
  const last = Math.max(begin + 1, ...events.map(({ time }) => Date.parse(time)), ...spans.map(({ to }) => to ?? 0));
  const end = goesOn || !saga.ended_at ? Math.max(now, last) : last;
  const axis = axisOf(spans, begin, end);
  const sorts = [...new Set(spans.map(({ sort }) => sort))];
  return (
    <>
      <ol class="gantt" aria-label="Timeline">
        {rows.map((row) => (
          <Line key={row.step.name} row={row} axis={axis} begin={begin} end={end} live={goesOn} />
        ))}
        <li class={axis.cuts.length ? "axis two" : "axis"} aria-hidden="true">
          <span />
          <span class="track">
            <span>0</span>
            {axis.cuts.map(({ from, to, lasted }) => (
              <span key={from} class="cut-text" style={{ left: percent((from + to) / 2) }}>
                {duration(lasted)}
              </span>
            ))}
            <span>{goesOn ? "now, " : ""}{duration(end - begin)}</span>
          </span>
        </li>
      </ol>
      <ul class="legend" aria-label="What the colours mean">
        {sorts.map((sort) => (
          <li key={sort}>
            <span class={`stretch ${sort}`} aria-hidden="true" /> {SORTS[sort]}
          </li>
        ))}
        {axis.cuts.length > 0 && (
          <li>
            <span class="cut-mark" aria-hidden="true" /> a long wait, shortened
          </li>
        )}
        {spans.some(({ attempts }) => attempts > 1) && <li>❘❘ attempts, whose number alone is recorded</li>}
      </ul>
      <details>
        <summary>The timeline as a table</summary>
        <Table rows={rows} begin={begin} end={end} />
      </details>
    </>
  );
}

function Line({ row, axis, begin, end, live }: { row: Row; axis: Axis; begin: number; end: number; live: boolean }) {
  const { step, spans, marks, beside } = row;
  return (
    <li class={beside.length ? "beside" : ""}>
      <span class="name">
        <strong>{step.name}</strong> <Status status={step.status} />
      </span>
      <span class="track">
        {axis.cuts.map(({ from, to }) => (
          <span key={`cut ${from}`} class="cut-mark" aria-hidden="true" style={{ left: percent(from), width: percent(to - from) }} />
        ))}
        {spans.map((span, index) => (
          <Bar key={index} name={step.name} span={span} axis={axis} begin={begin} end={end} />
        ))}
        {marks.map(({ at, text, kind }) => (
          <span key={`${kind} ${at}`} class={`mark ${kind}`} title={`${text} ${since(iso(begin), iso(at))}`} aria-hidden="true" style={{ left: percent(axis.at(at)) }} />
        ))}
        {live && <span class="now" aria-hidden="true" style={{ left: percent(axis.at(end)) }} />}
      </span>
      {step.error && (
        <span class="said" title={step.message ?? undefined}>
          <strong>{inWords(step.error)}</strong>
          {step.message && `: ${step.message}`} <code>{step.error}</code>
        </span>
      )}
      {!step.error && step.question && <span class="said wait">Waits for a decision{spans.at(-1)?.text ? `, ${untilOf(spans.at(-1)!)}` : ""}</span>}
      {!step.error && step.begins_at && (
        <span class="said wait">
          Waits until <Moment at={step.begins_at} />
        </span>
      )}
    </li>
  );
}

function Bar({ name, span, axis, begin, end }: { name: string; span: Span; axis: Axis; begin: number; end: number }) {
  const [from, to] = [axis.at(span.from), axis.at(span.to ?? end)];
  const text = inText(name, span, begin, end);
  return (
    <span class={`stretch ${span.sort}${span.to === null ? " open" : ""}`} role="img" aria-label={text} title={text} style={{ left: percent(from), width: percent(to - from) }}>
      {span.attempts > MOST_PIPS ? (
        <span class="pips">×{span.attempts}</span>
      ) : (
        span.attempts > 1 && <span class="pips">{"❘".repeat(span.attempts)}</span>
      )}
    </span>
  );
}

function Table({ rows, begin, end }: { rows: Row[]; begin: number; end: number }) {
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label="The timeline as a table">
      <table>
        <thead>
          <tr>
            {["Step", "What", "From", "Took", "Attempts", "Run", "Said"].map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.flatMap(({ step, spans }) =>
            spans.map((span, index) => (
              <tr key={`${step.name} ${index}`}>
                <th scope="row">{step.name}</th>
                <td>{SORTS[span.sort]}</td>
                <td>{since(iso(begin), iso(span.from))}</td>
                <td>{span.to === null ? `${duration(end - span.from)} so far` : duration(span.to - span.from)}</td>
                <td>{isWait(span.sort) ? "" : span.attempts}</td>
                <td>{span.run + 1}</td>
                <td>{untilOf(span)}</td>
              </tr>
            )),
          )}
        </tbody>
      </table>
    </div>
  );
}

function inText(name: string, span: Span, begin: number, end: number): string {
  const took = span.to === null ? `for ${duration(end - span.from)} so far` : `for ${duration(span.to - span.from)}`;
  const tries = !isWait(span.sort) && span.attempts > 1 ? `, ${span.attempts} attempts` : "";
  const run = span.run ? `, run ${span.run + 1}` : "";
  const said = untilOf(span);
  return `${name}: ${VERBS[span.sort]} from ${since(iso(begin), iso(span.from))} ${took}${tries}${run}${said ? `: ${said}` : ""}`;
}

const VERBS: Record<Sort, string> = { ...SORTS, action: "acts", undo: "is undone", "undo-failed": "undo failed" };

/** A span's text, its moments as the page shows moments. */
function untilOf({ text }: Span): string {
  const at = /^until (\S+)$/.exec(text)?.[1];
  return at ? `until ${new Date(at).toLocaleString()}` : text;
}

const percent = (part: number): string => `${(part * 100).toFixed(3)}%`;
const iso = (moment: number): string => new Date(moment).toISOString();

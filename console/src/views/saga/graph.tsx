/** What the saga began with, and where it stands in it: stages from left to right, undos back. */
import type { Saga, Step } from "../../api/client";
import { duration, Status } from "../../parts/show";
import { list, type Declaration, type Declared } from "./words";

export function Graph({ saga, declaration }: { saga: Saga; declaration: Declaration }) {
  const known = new Map(saga.steps.map((step) => [step.name, step]));
  const { stages } = declaration;
  const past = stages.findIndex((stage) => stage.some(({ role }) => role === "pivot"));
  return (
    <ol class="graph" tabIndex={0} aria-label={`What ${declaration.saga} began with`}>
      {stages.map((stage, rank) => {
        const steps = stage.map(({ name }) => known.get(name)).filter((step) => step !== undefined);
        return (
          <li key={stage[0]?.name} class={rank > past ? "retriable" : rank === past ? "pivot" : "compensable"}>
            {rank > 0 && <Arrows undo={stages[rank - 1]!.some(({ undo }) => undo)} went={steps.some(went)} back={undone(stages[rank - 1]!, known)} />}
            <div class={stage.length > 1 ? "nodes together" : "nodes"} role={stage.length > 1 ? "group" : undefined} aria-label={stage.length > 1 ? `${list(stage.map(({ name }) => name))} together` : undefined}>
              {stage.length > 1 && <span class="hint">together</span>}
              {stage.map((declared) => (
                <Node key={declared.name} declared={declared} step={known.get(declared.name)} />
              ))}
            </div>
          </li>
        );
      })}
    </ol>
  );
}

function Node({ declared, step }: { declared: Declared; step: Step | undefined }) {
  const { waits, later } = declared;
  const said = [
    declared.role === "pivot" ? "decides the saga" : "",
    declared.role === "retriable" ? "tried until it is done" : "",
    declared.undo ? "has an undo" : "",
    declared.external ? "acts outside" : "",
    waits ? `may wait ${duration(waits.within * 1000)} for the ${waits.scope}` : "",
    later?.delay ? `${duration(later.delay * 1000)} later` : later?.not_before ? `not before ${later.not_before}` : "",
    declared.optional ? "may be left out" : "",
  ].filter(Boolean);
  return (
    <div class={`node ${declared.role} ${(step?.status ?? "pending").toLowerCase().replaceAll("_", "-")}${step?.question || step?.begins_at ? " waiting" : ""}`}>
      <span>
        <strong>{declared.name}</strong>
        {declared.role === "pivot" && <span class="hint"> ◆ pivot</span>}
      </span>
      {step && <Status status={step.status} />}
      <span class="hint">{said.join(" · ")}</span>
    </div>
  );
}

/** The way forward and, where what is before has an undo, the way back. */
function Arrows({ undo, went, back }: { undo: boolean; went: boolean; back: boolean }) {
  return (
    <svg class="arrows" viewBox="0 0 40 40" aria-hidden="true">
      <path class={went ? "forward went" : "forward"} d="M2 14 H34 M28 8 L35 14 L28 20" />
      {undo && <path class={back ? "back went" : "back"} d="M38 28 H6 M12 22 L5 28 L12 34" />}
    </svg>
  );
}

/** Whether the saga has come to a step: a pivot that was cancelled has failed before. */
const went = ({ status, error, begins_at }: Step): boolean =>
  begins_at !== undefined || (status !== "PENDING" && status !== "SKIPPED" && error !== "StepCancelledError");
const undone = (stage: Declared[], known: Map<string, Step>): boolean =>
  stage.some(({ name }) => ["UNDOING", "UNDONE", "UNDO_FAILED"].includes(known.get(name)?.status ?? ""));

/** What can be done to a saga, by whom may do it. */
import { api, call, must, ProblemError, UnreachableError } from "../../api/client";
import { isOperator, may, session } from "../../api/session";
import { Act } from "../../parts/act";
import { notify } from "../../parts/notices";
import { go, to } from "../../route";
import type { Seen } from "./watch";
import { list, type Declaration } from "./words";

interface Acting {
  seen: Seen;
  declaration: Declaration | undefined;
  reload: () => Promise<void>;
}

export function Acts({ seen, declaration, reload }: Acting) {
  const { saga, tag } = seen;
  const path = { saga_id: saga.saga_id };
  const writes = may("sagas:write") || isOperator.value;
  const declared = new Map(declaration?.stages.flat().map((step) => [step.name, step]));
  const pivot = saga.steps.find(({ name }) => declared.get(name)?.role === "pivot");
  const asked = saga.status === "RUNNING" ? saga.steps.find(({ question }) => question) : undefined;

  /** Does it once, and shows what has become of the saga, also where no answer came. */
  const doing = async (what: () => Promise<unknown>, done: string) => {
    try {
      await what();
      notify(done);
    } catch (problem) {
      await again();
      if (problem instanceof ProblemError) throw inOtherWords(problem);
      if (!(problem instanceof UnreachableError)) throw problem;
      const text = "No answer came, so it may have been done or not. The saga is shown as it is now: look at it before you try again.";
      notify(text); // where the saga has moved on, the dialog is gone
      throw new Error(text);
    }
    await again();
  };
  const again = async () => {
    await reload();
    // The button may be gone by now, and the focus with it.
    if (document.activeElement === document.body) document.getElementById("remains")?.focus();
  };

  const resolve = (step: string, action: "retry" | "skip") => (reason: string) =>
    doing(
      () =>
        must(
          api().POST("/sagas/{saga_id}/steps/{step}/resolve", {
            params: { path: { ...path, step }, header: { "If-Match": tag } },
            body: { action, reason: reason || null },
          }),
        ),
      action === "retry" ? `${step} is tried again.` : `${step} is skipped.`,
    );

  return (
    <div class="buttons acts" role="group" aria-label="What can be done">
      {isOperator.value &&
        saga.stuck.map((name) => {
          const isUndo = saga.steps.find((step) => step.name === name)?.status === "UNDO_FAILED";
          const what = isUndo ? `the undo of ${name}` : name;
          return [
            <Act key={`retry ${name}`} title={`Retry ${what}`} reason="optional" act={resolve(name, "retry")}>
              <p>It is tried again by the newest code; what it has done before is not done twice.</p>
            </Act>,
            declared.get(name)?.role !== "pivot" && (
              <Act key={`skip ${name}`} title={`Skip ${what}`} reason="required" danger act={resolve(name, "skip")}>
                <p>
                  {isUndo
                    ? "Its effect stays, and is yours to take back by other means. The saga goes on as if it were undone."
                    : "It is not done, and is yours to do by other means. The saga goes on without it."}
                </p>
              </Act>
            ),
          ];
        })}
      {asked && <Decision seen={seen} step={asked.name} question={asked.question as unknown as Asked} scope={declared.get(asked.name)?.waits?.scope} doing={doing} />}
      {writes && saga.status === "RUNNING" && pivot?.status !== "DONE" && (
        <Act
          title="Cancel"
          danger
          act={() => doing(() => must(api().POST("/sagas/{saga_id}/cancel", { params: { path } })), "It is cancelled, and is being undone.")}
        >
          <p>
            {pivot ? `If ${pivot.name} has not completed, it never will, and` : "Unless its pivot has completed,"} what was done is undone
            {done(seen).length > 0 && `: ${list(done(seen).reverse())}`}.
          </p>
        </Act>
      )}
      {writes && saga.links["reverse"] && !saga.reversed_by && (
        <Act
          title="Reverse"
          reason="optional"
          danger
          act={(reason) =>
            doing(async () => {
              const begun = await must(api().POST("/sagas/{saga_id}/reverse", { params: { path }, body: { reason: reason || null } }));
              go(to(["sagas", begun.saga_id]));
            }, "Another saga reverses it.")
          }
        >
          <p>Another saga takes back what this one has done; you are shown that one.</p>
        </Act>
      )}
    </div>
  );
}

interface Asked {
  name: string;
  to?: string;
}
interface Deciding {
  seen: Seen;
  step: string;
  question: Asked;
  scope: string | undefined;
  doing: (what: () => Promise<unknown>, done: string) => Promise<void>;
}

/** The decision on the question that the saga waits with, by whom it is put to. */
function Decision({ seen, step, question, scope, doing }: Deciding) {
  if (!scope || !(may(scope) || isOperator.value)) return null;
  const decides = may(scope) && (!question.to || question.to === session.value?.subject);
  const decide = (decision: "approve" | "reject") => (reason: string) =>
    doing(
      () => call("POST", `/${encodeURIComponent(question.name)}/${encodeURIComponent(seen.saga.saga_id)}/decision`, { decision, ...(reason ? { reason } : {}) }),
      decision === "approve" ? `${step} is approved.` : `${step} is rejected.`,
    );
  return (
    <>
      {decides && (
        <>
          <Act title={`Approve ${step}`} reason="optional" act={decide("approve")}>
            <p>It is decided once; the saga goes on.</p>
          </Act>
          <Act title={`Reject ${step}`} reason="required" danger act={decide("reject")}>
            <p>It is decided once; what the saga has done is undone.</p>
          </Act>
        </>
      )}
      <a href={to(["decisions", question.name, seen.saga.saga_id])}>The question</a>
    </>
  );
}

const done = ({ saga }: Seen): string[] => saga.steps.filter(({ status }) => status === "DONE").map(({ name }) => name);

/** A refusal with what it means to whoever has pressed the button. */
function inOtherWords(problem: ProblemError): ProblemError {
  const meaning: Record<string, string> = {
    "past-the-pivot": "It is too late to cancel: what follows is done for certain. What it has done can be taken back once it has succeeded, if a saga is declared for that.",
    "saga-changed": "The saga has changed since you looked. It is shown as it is now: decide by that.",
    "nothing-to-resolve": "Somebody else may have resolved it: the saga is shown as it is now.",
  };
  const more = meaning[problem.kind];
  return more ? new ProblemError({ ...problem.problem, detail: `${problem.problem.detail}. ${more}` }) : problem;
}

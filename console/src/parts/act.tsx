/** Something that is done to a saga, a key, a queue: asked for first, with a reason where one is due. */
import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";
import { Failure } from "./states";

interface Asked {
  /** The button's text, which is also the dialog's title. */
  title: string;
  /** What will happen, in words. */
  children: ComponentChildren;
  /** Whether a reason is asked for, and whether it must be given. */
  reason?: "none" | "optional" | "required";
  danger?: boolean;
  disabled?: boolean;
  /** Do it; what is thrown is shown, and the dialog stays. */
  act: (reason: string) => Promise<void>;
}

/** A button that opens a dialog; what it does is done once, however often it is pressed. */
export function Act({ title, children, reason = "none", danger = false, disabled = false, act }: Asked) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>();
  const close = () => dialog.current?.close();
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setProblem(undefined);
    try {
      await act(text.trim());
      setText("");
      close();
    } catch (found) {
      setProblem(found);
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <button type="button" class={danger ? "danger" : ""} disabled={disabled} onClick={() => dialog.current?.showModal()}>
        {title}
      </button>
      <dialog ref={dialog} aria-label={title}>
        <form onSubmit={submit}>
          <h2>{title}</h2>
          {children}
          {reason !== "none" && (
            <label>
              Reason{reason === "optional" && " (optional)"}
              <textarea
                value={text}
                maxLength={1000}
                required={reason === "required"}
                onInput={(event) => setText(event.currentTarget.value)}
              />
            </label>
          )}
          {problem !== undefined && <Failure problem={problem} />}
          <div class="buttons">
            <button type="button" class="quiet" onClick={close}>
              Not now
            </button>
            <button type="submit" class={danger ? "danger first" : "first"} disabled={busy}>
              {busy ? "…" : title}
            </button>
          </div>
        </form>
      </dialog>
    </>
  );
}

/** What the API says only once: to be copied now, and never put into an address. */
import { useId } from "preact/hooks";
import { notify } from "./notices";

export function Once({ label, value }: { label: string; value: string }) {
  const id = useId();
  const copy = async () => {
    await navigator.clipboard.writeText(value);
    notify(`${label} copied.`);
  };
  return (
    <div class="once">
      <label for={id}>{label}</label>
      <span>
        <input id={id} type="text" readOnly value={value} spellcheck={false} onFocus={(event) => event.currentTarget.select()} />
        <button type="button" onClick={() => void copy()} aria-label={`Copy the ${label.toLowerCase()}`}>
          Copy
        </button>
      </span>
    </div>
  );
}

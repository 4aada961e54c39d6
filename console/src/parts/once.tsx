/** What the API says only once: to be copied now, and never put into an address. */
import { notify } from "./notices";

export function Once({ label, value }: { label: string; value: string }) {
  const copy = async () => {
    await navigator.clipboard.writeText(value);
    notify(`${label} copied.`);
  };
  return (
    <label class="once">
      {label}
      <span>
        <input type="text" readOnly value={value} spellcheck={false} onFocus={(event) => event.currentTarget.select()} />
        <button type="button" onClick={() => void copy()} aria-label={`Copy the ${label.toLowerCase()}`}>
          Copy
        </button>
      </span>
    </label>
  );
}

/** Short messages of what was done, read out by readers of the screen; they leave by themselves. */
import { signal } from "@preact/signals";

const shown = signal<{ id: number; text: string }[]>([]);
let last = 0;

export function notify(text: string): void {
  last += 1;
  const id = last;
  shown.value = [...shown.value, { id, text }];
  setTimeout(() => (shown.value = shown.value.filter((one) => one.id !== id)), 8000);
}

export function Notices() {
  return (
    <div class="notices" role="status" aria-live="polite">
      {shown.value.map(({ id, text }) => (
        <p key={id}>{text}</p>
      ))}
    </div>
  );
}

/** Moments between the two ways of writing them: RFC 3339 with an offset, and `datetime-local`. */

/** As RFC 3339, with the offset that this place has at that moment: `2026-12-01T09:30:00+05:30`. */
export function rfc3339(local: string): string {
  const moment = new Date(local);
  const ahead = -moment.getTimezoneOffset();
  const offset = `${ahead < 0 ? "-" : "+"}${two(Math.abs(ahead) / 60)}:${two(Math.abs(ahead) % 60)}`;
  return `${datetimeLocal(moment)}${offset}`;
}

/** As an input of the type `datetime-local` has it, in this place's time. */
export function datetimeLocal(moment: Date): string {
  if (Number.isNaN(moment.getTime())) return "";
  const date = [String(moment.getFullYear()).padStart(4, "0"), two(moment.getMonth() + 1), two(moment.getDate())].join("-");
  return `${date}T${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}`;
}

const two = (number: number): string => String(Math.trunc(number)).padStart(2, "0");

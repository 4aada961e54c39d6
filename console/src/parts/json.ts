/** JSON as people paste it: read with the line of each of its values, or of what is wrong. */

export interface Read {
  value: unknown;
  /** By the path of a value, such as `lines.0.sku`, the line that it begins in. */
  lines: Map<string, number>;
}

/** Where a text stops being JSON, and why. */
export class JsonError extends Error {
  constructor(
    readonly line: number,
    why: string,
  ) {
    super(`line ${line}: ${why}`);
  }
}

const SPACE = /[ \t\r\n]*/y;
const SCALAR = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;
const DEEPEST = 100;

/** Read a text.
 *
 * The browser's own parser names no place for some errors, and never that of a value.
 *
 * @throws JsonError
 */
export function readJson(text: string): Read {
  const lines = new Map<string, number>();
  let at = 0;
  const line = () => text.slice(0, at).split("\n").length;
  const fail = (wanted: string): never => {
    const found = at < text.length ? `not ${JSON.stringify(text.slice(at, at + 12).split("\n")[0])}` : "and the text ends";
    throw new JsonError(line(), `${wanted} is due here, ${found}`);
  };
  const space = () => {
    SPACE.lastIndex = at;
    SPACE.test(text);
    at = SPACE.lastIndex;
  };
  const take = (sign: string): boolean => {
    space();
    if (text[at] !== sign) return false;
    at += 1;
    return true;
  };
  const scalar = (wanted: string): unknown => {
    SCALAR.lastIndex = at;
    const found = SCALAR.exec(text)?.[0] ?? fail(wanted);
    if (wanted !== "a value" && !found.startsWith('"')) fail(wanted);
    at += found.length;
    return JSON.parse(found);
  };
  const members = (path: string[], end: "}" | "]") => {
    if (path.length > DEEPEST) fail(`at most ${DEEPEST} levels`);
    if (take(end)) return;
    const seen = new Set<string>();
    for (let count = 0; ; count += 1) {
      space();
      let name = String(count);
      const begins = line();
      if (end === "}") {
        name = scalar("a name in double quotes") as string;
        if (seen.has(name)) throw new JsonError(begins, `${JSON.stringify(name)} is there twice`);
        seen.add(name);
        if (!take(":")) fail("a colon");
      }
      lines.set([...path, name].join("."), begins);
      read([...path, name]);
      if (take(end)) return;
      if (!take(",")) fail(`a comma or ${end}`);
    }
  };
  const read = (path: string[]) => {
    if (take("{")) members(path, "}");
    else if (take("[")) members(path, "]");
    else scalar("a value");
  };
  read([]);
  space();
  if (at < text.length) fail("the end");
  return { value: JSON.parse(text), lines };
}

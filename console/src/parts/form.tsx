/** A form made of a schema: what it takes is what the API takes.
 *
 * Each value is changed by its path, so what no field shows (it came from JSON) stays as it is. Texts
 * of the schema are shown as text.
 */
import { createContext, type JSX, type TargetedInputEvent } from "preact";
import { useContext, useEffect, useId, useRef, useState } from "preact/hooks";
import { ProblemError } from "../api/client";
import type { Schema } from "../api/deployment";
import { money } from "./money";
import { datetimeLocal, rfc3339 } from "./moments";

export type Path = (string | number)[];
/** What is wrong with a field, by its path as the API writes it: `lines.0.sku`. */
export type Wrong = ReadonlyMap<string, string>;

interface Made {
  of: Schema;
  value: unknown;
  /** Called with what has been changed, and its new value: undefined takes it out. */
  change: (path: Path, value: unknown) => void;
  wrong: Wrong;
  /** A schema without its references. */
  resolve: (schema: Schema) => Schema;
}

const Shared = createContext<Omit<Made, "of" | "value">>({ change: () => {}, wrong: new Map(), resolve: (one) => one });

/** The fields of an object; `<form>` and its buttons are the caller's. */
export function SchemaFields({ of, value, ...shared }: Made) {
  const schema = shared.resolve(of);
  return (
    <Shared.Provider value={shared}>
      <p class="hint">
        {schema.description} What has a <span class="required">star</span> must be given.
      </p>
      {kindOf(schema) === "object" ? (
        <Properties schema={schema} path={[]} value={value} />
      ) : (
        <Field of={of} path={[]} label="Request" required value={value} />
      )}
    </Shared.Provider>
  );
}

/** A value with the part at a path replaced; undefined takes it out. */
export function changed(value: unknown, [first, ...rest]: Path, to: unknown): unknown {
  if (first === undefined) return to;
  if (Array.isArray(value)) return value.map((one, at) => (at === first ? changed(one, rest, to) : (one as unknown)));
  const { [first]: before, ...others } = isObject(value) ? value : {};
  const next = changed(before, rest, to);
  if (next === undefined) return others;
  // A name keeps its place: what is pasted is not shuffled by what is typed.
  return isObject(value) && first in value ? { ...value, [first]: next } : { ...others, [first]: next };
}

/** What a form begins with: the objects that must be there, and what can be only one thing. */
export function fresh(of: Schema, resolve: (schema: Schema) => Schema): unknown {
  const schema = resolve(of);
  if (schema.const !== undefined) return schema.const;
  switch (kindOf(schema)) {
    case "object": {
      const due = (schema.required ?? []).map((name) => [name, fresh(schema.properties?.[name] ?? {}, resolve)] as const);
      return Object.fromEntries(due.filter(([, value]) => value !== undefined));
    }
    case "array":
      return schema.minItems ? Array.from({ length: schema.minItems }, () => fresh(schema.items ?? {}, resolve) ?? null) : [];
    case "boolean":
      return false;
    default:
      return undefined;
  }
}

/** What a problem says of fields. */
export function wrongOf(problem: unknown): Wrong {
  const errors = problem instanceof ProblemError ? (problem.problem.errors ?? []) : [];
  return new Map(errors.map(({ field, message }) => [field, message]));
}

/** What is wrong without what has just been changed. */
export function righted(wrong: Wrong, path: Path): Wrong {
  const field = path.join(".");
  return new Map([...wrong].filter(([one]) => one !== field && !one.startsWith(`${field}.`)));
}

/** Put the keyboard at the first field that is wrong; at what it belongs to, where it is not shown. */
export function focusWrong(form: HTMLFormElement, wrong: Wrong): void {
  const found = [...wrong.keys()].map((field) => {
    for (let parts = field.split("."); parts.length > 0; parts = parts.slice(0, -1)) {
      const shown = form.querySelector<HTMLElement>(`[data-field="${CSS.escape(parts.join("."))}"]`);
      if (shown) return shown.matches("fieldset") ? (shown.querySelector<HTMLElement>("input, select, textarea, button") ?? shown) : shown;
    }
    return null;
  });
  const first = found.filter((one) => one !== null).sort((one, other) => (one.compareDocumentPosition(other) & 4 ? -1 : 1))[0];
  first?.focus();
}

interface Shown {
  path: Path;
  label: string;
  required: boolean;
  value: unknown;
}

function Field({ of, currency, ...shown }: Shown & { of: Schema; currency?: string | undefined }) {
  const { resolve } = useContext(Shared);
  const schema = resolve(of);
  const description = of.description ?? (of.$ref ? undefined : schema.description);
  const several = (of.anyOf?.filter(({ type }) => type !== "null").length ?? 0) > 1;
  switch (several ? "any" : kindOf(schema)) {
    case "object":
      return <ObjectField schema={schema} {...shown} description={description ?? schema.description} />;
    case "array":
      return <List schema={schema} {...shown} description={description} />;
    case "any":
      return <AnyJson {...shown} description={description} />;
    case "boolean":
      if (shown.required || schema.default != null) return <Switch schema={schema} {...shown} description={description} />;
      return <Choice options={[true, false]} schema={schema} {...shown} description={description} />;
    case "enum":
      return <Choice options={schema.enum ?? [schema.const]} schema={schema} {...shown} description={description} />;
    case "number":
      return <Figure schema={schema} currency={currency} {...shown} description={description} />;
    case "string":
      return <Text schema={schema} {...shown} description={description} />;
  }
}

function Properties({ schema, path, value }: { schema: Schema; path: Path; value: unknown }) {
  const has = isObject(value) ? value : {};
  const required = new Set(schema.required);
  const currency = typeof has["currency"] === "string" ? has["currency"] : undefined;
  return (
    <div class="fields">
      {Object.entries(schema.properties ?? {}).map(([name, of]) => (
        <Field
          key={name}
          of={of}
          path={[...path, name]}
          label={labelOf(name, of)}
          required={required.has(name)}
          value={has[name]}
          currency={schema.properties?.["currency"] ? (currency ?? "") : undefined}
        />
      ))}
    </div>
  );
}

interface Described extends Shown {
  schema: Schema;
  description: string | undefined;
}

function ObjectField({ schema, path, label, required, value, description }: Described) {
  const { change, resolve } = useContext(Shared);
  const on = required || (value !== undefined && value !== null);
  return (
    <fieldset data-field={path.join(".")}>
      <legend class={required ? "required" : ""}>
        {required ? (
          label
        ) : (
          <label class="inline">
            <input
              type="checkbox"
              role="switch"
              checked={on}
              onChange={(event) => change(path, event.currentTarget.checked ? (fresh(schema, resolve) ?? {}) : undefined)}
            />
            {label}
          </label>
        )}
      </legend>
      {description && <p class="hint">{description}</p>}
      <Flaw at={path} />
      {on && <Properties schema={schema} path={path} value={value} />}
    </fieldset>
  );
}

function List({ schema, path, label, required, value, description }: Described) {
  const { change, resolve } = useContext(Shared);
  const box = useRef<HTMLFieldSetElement>(null);
  const [added, setAdded] = useState(0);
  const items: unknown[] = Array.isArray(value) ? value : [];
  const of = schema.items ?? {};
  const one = singular(label);
  useEffect(() => {
    const rows = box.current?.querySelectorAll(":scope > .item");
    if (added) rows?.[rows.length - 1]?.querySelector<HTMLElement>("input, select, textarea")?.focus();
  }, [added]);
  const add = () => {
    change(path, [...items, fresh(of, resolve) ?? null]);
    setAdded(added + 1);
  };
  const remove = (at: number) => {
    const rest = items.filter((_, index) => index !== at);
    change(path, rest.length === 0 && !required ? undefined : rest);
    box.current?.querySelector<HTMLElement>(":scope > .add")?.focus();
  };
  return (
    <fieldset data-field={path.join(".")} ref={box}>
      <legend class={required ? "required" : ""}>{label}</legend>
      {description && <p class="hint">{description}</p>}
      <p class="hint">{bounds(schema.minItems ?? 0, schema.maxItems, "of them")}</p>
      <Flaw at={path} />
      {items.map((item, at) => (
        <div class="item" key={at}>
          <Field of={of} path={[...path, at]} label={`${one} ${at + 1}`} required value={item ?? undefined} />
          <button
            type="button"
            class="quiet"
            disabled={items.length <= (required ? (schema.minItems ?? 0) : 0)}
            aria-label={`Remove ${one.toLowerCase()} ${at + 1}`}
            onClick={() => remove(at)}
          >
            Remove
          </button>
        </div>
      ))}
      <button type="button" class="add" disabled={items.length >= (schema.maxItems ?? Infinity)} onClick={add}>
        Add {one.toLowerCase()}
      </button>
    </fieldset>
  );
}

function Switch({ schema, path, label, value, description }: Described) {
  const { change } = useContext(Shared);
  return (
    <div class="field">
      <label class="inline">
        <input
          type="checkbox"
          data-field={path.join(".")}
          checked={Boolean(value ?? schema.default)}
          onChange={(event) => change(path, event.currentTarget.checked)}
        />
        {label}
      </label>
      {description && <p class="hint">{description}</p>}
      <Flaw at={path} />
    </div>
  );
}

function Choice({ options, schema, path, label, required, value, description }: Described & { options: unknown[] }) {
  const { change } = useContext(Shared);
  const shown = (one: unknown) => (one === true ? "yes" : one === false ? "no" : String(one));
  const none = schema.default != null ? `by default: ${shown(schema.default)}` : required ? "choose" : "none";
  return (
    <Labelled path={path} label={label} required={required} description={description}>
      {(about) => (
        <select
          {...about}
          required={required}
          value={value === undefined ? "" : String(options.indexOf(value))}
          onChange={(event) => change(path, event.currentTarget.value === "" ? undefined : options[Number(event.currentTarget.value)])}
        >
          <option value="">{none}</option>
          {options.map((one, at) => (
            <option key={at} value={String(at)}>
              {shown(one)}
            </option>
          ))}
        </select>
      )}
    </Labelled>
  );
}

/** A bound as far as this is no news to anybody. */
const FAR = 1e9;

/** A number; beside a currency it is so many of its minor units, and shown as money too. */
function Figure({ schema, path, label, required, value, description, currency }: Described & { currency?: string | undefined }) {
  const { change } = useContext(Shared);
  const whole = typeOf(schema) === "integer";
  const [least, most] = [schema.minimum ?? (whole && schema.exclusiveMinimum !== undefined ? schema.exclusiveMinimum + 1 : undefined), schema.maximum];
  const [draft, setDraft] = useDraft(value, (one) => (one === undefined ? "" : String(one)), figure);
  const about = currency === undefined ? "" : "in minor units, such as cents or paise";
  return (
    <Labelled path={path} label={label} required={required} description={description} hint={[about, bounds(least, (most ?? Infinity) >= FAR ? undefined : most)].filter(Boolean).join("; ")}>
      {(described) => (
        <>
          <input
            {...described}
            type="number"
            inputMode={whole ? "numeric" : "decimal"}
            required={required}
            min={least}
            max={most}
            step={whole ? 1 : "any"}
            placeholder={schema.default == null ? "" : String(schema.default)}
            value={draft}
            onInput={(event) => {
              setDraft(event.currentTarget.value);
              change(path, figure(event.currentTarget.value));
            }}
          />
          {currency && typeof value === "number" && <output class="hint">= {money(value, currency)}</output>}
        </>
      )}
    </Labelled>
  );
}

function Text({ schema, path, label, required, value, description }: Described) {
  const { change } = useContext(Shared);
  const input = useRef<HTMLInputElement & HTMLTextAreaElement>(null);
  const name = String(path.at(-1) ?? "");
  const text = value === undefined || value === null ? "" : typeof value === "string" ? value : JSON.stringify(value);
  useEffect(() => input.current?.setCustomValidity(text === "" ? "" : flaw(schema, text)), [text]);
  const moment = schema.format === "date-time";
  const set = (typed: string) => change(path, typed === "" ? undefined : moment ? rfc3339(typed) : typed);
  const same = {
    ref: input,
    required: required && schema.minLength !== 0,
    placeholder: schema.default == null ? (/_at$/.test(name) ? rfc3339(new Date().toDateString()) : "") : String(schema.default),
    onInput: (event: TargetedInputEvent<HTMLInputElement | HTMLTextAreaElement>) => set(event.currentTarget.value),
  };
  return (
    <Labelled path={path} label={label} required={required} description={description}>
      {(about) =>
        (schema.maxLength ?? 0) >= 1000 ? (
          <textarea {...about} {...same} value={text} />
        ) : (
          <input
            {...about}
            {...same}
            type={(TYPES[schema.format ?? ""] ?? "text") as "text" /* the types of JSX take no union */}
            {...(moment ? { step: 1 } : {})}
            inputMode={/email$/i.test(name) ? "email" : undefined}
            autoComplete="off"
            spellcheck={false}
            value={moment ? datetimeLocal(new Date(text)) : text}
          />
        )
      }
    </Labelled>
  );
}

const TYPES: Record<string, string> = { email: "email", date: "date", "date-time": "datetime-local", uri: "url" };

/** What the schema leaves open, as JSON. */
function AnyJson({ path, label, required, value, description }: Omit<Described, "schema">) {
  const { change } = useContext(Shared);
  const input = useRef<HTMLTextAreaElement>(null);
  const read = (text: string): unknown => {
    try {
      return text.trim() === "" ? undefined : (JSON.parse(text) as unknown);
    } catch {
      return undefined;
    }
  };
  const [draft, setDraft] = useDraft(value, (one) => (one === undefined ? "" : JSON.stringify(one, null, 2)), read);
  return (
    <Labelled path={path} label={label} required={required} description={description} hint="as JSON">
      {(about) => (
        <textarea
          {...about}
          ref={input}
          class="code"
          required={required}
          value={draft}
          spellcheck={false}
          onInput={(event) => {
            const text = event.currentTarget.value;
            setDraft(text);
            change(path, read(text));
            event.currentTarget.setCustomValidity(text.trim() !== "" && read(text) === undefined ? "must be JSON" : "");
          }}
        />
      )}
    </Labelled>
  );
}

interface About {
  id: string;
  "data-field": string;
  name: string;
  "aria-describedby": string | undefined;
  "aria-invalid": boolean | undefined;
}

function Labelled(
  { path, label, required, description, hint, children }: Omit<Shown, "value"> & {
    description: string | undefined;
    hint?: string;
    children: (about: About) => JSX.Element;
  },
) {
  const { wrong } = useContext(Shared);
  const id = useId();
  const field = path.join(".");
  const is = wrong.get(field);
  const said = [description, hint].filter(Boolean).join(" · ");
  const describedby = [said && `${id}-hint`, is && `${id}-wrong`].filter(Boolean).join(" ");
  return (
    <div class="field">
      <label for={id} class={required ? "required" : ""}>
        {label}
      </label>
      {children({ id, "data-field": field, name: field, "aria-describedby": describedby || undefined, "aria-invalid": is ? true : undefined })}
      {said && (
        <span class="hint" id={`${id}-hint`}>
          {said}
        </span>
      )}
      {is && (
        <span class="invalid" id={`${id}-wrong`}>
          {is}
        </span>
      )}
    </div>
  );
}

function Flaw({ at }: { at: Path }) {
  const is = useContext(Shared).wrong.get(at.join("."));
  return is ? <p class="invalid">{is}</p> : null;
}

/** What is typed, as it is typed: replaced when the value changes by something else. */
function useDraft(value: unknown, write: (value: unknown) => string, read: (text: string) => unknown): [string, (text: string) => void] {
  const [draft, setDraft] = useState(() => write(value));
  const same = JSON.stringify(read(draft)) === JSON.stringify(value);
  useEffect(() => {
    if (!same) setDraft(write(value));
  }, [same]);
  return [same ? draft : write(value), setDraft];
}

const figure = (text: string): number | undefined => (text === "" || Number.isNaN(Number(text)) ? undefined : Number(text));

type Kind = "object" | "array" | "enum" | "boolean" | "number" | "string" | "any";

function kindOf(schema: Schema): Kind {
  if (schema.enum || schema.const !== undefined) return "enum";
  const type = typeOf(schema);
  if (type === "object") return schema.properties ? "object" : "any";
  if (type === "integer") return "number";
  if (type === "array" || type === "boolean" || type === "number" || type === "string") return type;
  return "any";
}

function typeOf({ type }: Schema): string | undefined {
  return Array.isArray(type) ? type.find((one) => one !== "null") : type;
}

/** What is wrong with a text, which the browser itself does not check as the API does. */
function flaw(schema: Schema, text: string): string {
  const length = [...text].length; // characters, as the API counts them
  const { minLength: least = 0, maxLength: most = Infinity, pattern } = schema;
  if (length < least || length > most) return `must have ${bounds(least, schema.maxLength)} characters, has ${length}`;
  try {
    if (pattern && !new RegExp(pattern, "u").test(text)) return `must match ${pattern}`;
  } catch {
    return ""; // a pattern of another dialect: the API itself says what is wrong
  }
  return "";
}

function bounds(least: number | undefined, most: number | undefined, of = ""): string {
  const after = of && ` ${of}`;
  if (least !== undefined && most !== undefined) return `${least.toLocaleString()} to ${most.toLocaleString()}${after}`;
  if (most !== undefined) return `at most ${most.toLocaleString()}${after}`;
  return least ? `at least ${least.toLocaleString()}${after}` : "";
}

/** A name in words: `from_account` is `From account`. A title that says the same is passed over. */
function labelOf(name: string, { title }: Schema): string {
  const words = name.replaceAll("_", " ");
  if (title && title.toLowerCase() !== words.toLowerCase()) return title;
  return words.charAt(0).toUpperCase() + words.slice(1);
}

const singular = (label: string): string => (/[^s]s$/.test(label) ? label.slice(0, -1) : label);

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

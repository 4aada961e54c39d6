/** What this deployment has of its own: its sagas and what they take, its holdings, its decisions.
 *
 * All of it is read from the API's description, so the console of an app of one's own shows that app.
 */
import { config } from "./config";

export interface Schema {
  $ref?: string;
  type?: string | string[];
  title?: string;
  description?: string;
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  format?: string;
  pattern?: string;
  minLength?: number;
  maxLength?: number;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  minItems?: number;
  maxItems?: number;
  required?: string[];
  properties?: Record<string, Schema>;
  items?: Schema;
  anyOf?: Schema[];
}

export interface SagaForm {
  name: string;
  /** In words, such as `Start order: stock, payment`. */
  summary: string;
  /** The declared steps, in their order. */
  steps: string[];
  request: Schema;
  example: unknown;
}

/** Something of a service that is shown by its id, and changed by an operator. */
export interface Holding {
  /** The first part of its path, such as `flights`. */
  name: string;
  /** An id, as an example. */
  id: string | undefined;
  body: Schema;
  example: unknown;
}

/** What is decided by people, such as claims. */
export interface Decided {
  name: string;
  /** The scope of those who decide. */
  scope: string;
}

export interface Deployment {
  sagas: SagaForm[];
  holdings: Holding[];
  decided: Decided[];
  /** Whether faults on demand are switched on. */
  chaos: boolean;
  version: string;
  schema: (schema: Schema) => Schema;
}

interface Operation {
  operationId: string;
  summary?: string;
  security?: Record<string, string[]>[];
  parameters?: { name: string; in: string; example?: unknown }[];
  requestBody?: { content: Record<string, { schema: Schema; example?: unknown }> };
}

interface Description {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
}

let asked: Promise<Deployment> | undefined;

/** Read it, once for the page. */
export function deployment(): Promise<Deployment> {
  asked ??= read().catch((problem: unknown) => {
    asked = undefined;
    throw problem;
  });
  return asked;
}

async function read(): Promise<Deployment> {
  const [description, health] = (await Promise.all([open("/openapi.json"), open("/health")])) as [
    Description,
    { chaos: boolean; version: string },
  ];
  const found: Deployment = {
    sagas: [],
    holdings: [],
    decided: [],
    chaos: health.chaos,
    version: health.version,
    schema: (schema) => resolved(schema, description),
  };
  for (const [path, methods] of Object.entries(description.paths)) {
    const saga = /^\/sagas\/([^/{]+)$/.exec(path)?.[1];
    const held = /^\/([^/{]+)\/\{id\}$/.exec(path)?.[1];
    const decided = /^\/([^/{]+)\/\{id\}\/decision$/.exec(path)?.[1];
    const body = (of: Operation | undefined) => of?.requestBody?.content["application/json"];
    const { post, put } = methods;
    if (saga && post) {
      const summary = post.summary ?? saga;
      const steps = (summary.split(": ")[1] ?? "").split(", ").filter(Boolean);
      found.sagas.push({ name: saga, summary, steps, request: body(post)?.schema ?? {}, example: body(post)?.example });
    } else if (held && put) {
      const id = put.parameters?.find((one) => one.in === "path")?.example;
      found.holdings.push({ name: held, id: typeof id === "string" ? id : undefined, body: body(put)?.schema ?? {}, example: body(put)?.example });
    } else if (decided && post) {
      found.decided.push({ name: decided, scope: post.security?.flatMap((one) => Object.values(one).flat())[0] ?? "operator" });
    }
  }
  return found;
}

async function open(path: string): Promise<unknown> {
  const answer = await fetch(config().api + path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${answer.statusText}`);
  return answer.json();
}

/** A schema without its reference; what may also be null is what it is otherwise. */
function resolved(schema: Schema, description: Description): Schema {
  if (schema.$ref) {
    const name = schema.$ref.split("/").at(-1) ?? "";
    return { ...resolved(description.components.schemas[name] ?? {}, description), ...without(schema) };
  }
  const one = schema.anyOf?.find(({ type }) => type !== "null");
  return one ? { ...resolved(one, description), ...without(schema) } : schema;
}

function without({ $ref: _, anyOf: __, ...rest }: Schema): Schema {
  return rest;
}

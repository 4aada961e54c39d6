/** The frame round every view: who is signed in, where one can go, and how the page is connected. */
import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect, useErrorBoundary, useRef } from "preact/hooks";
import { online } from "./api/client";
import { issuer } from "./api/config";
import { deployment } from "./api/deployment";
import { channel, listen } from "./api/live";
import { ended, may, session, signIn, signInAgain, signOut } from "./api/session";
import { Failure, Loading } from "./parts/states";
import { Notices } from "./parts/notices";
import { go, path, to } from "./route";

type View = ComponentType<{ parts: string[] }>;

interface Place {
  name: string;
  title: string;
  /** Who sees it: those with one of these scopes. */
  scopes: string[];
  /** Whether there is a link to it, where that depends on what this deployment has. */
  listed?: () => boolean;
  load: () => Promise<View>;
}

/** The scopes of those who decide something here. */
const deciders = signal<string[]>([]);
const PLACES: Place[] = [
  { name: "sagas", title: "Sagas", scopes: ["sagas:read"], load: async () => (await import("./views/sagas")).Sagas as View },
  { name: "start", title: "Start", scopes: ["sagas:write"], load: async () => (await import("./views/start")).Start as View },
  { name: "decisions", title: "Decisions", scopes: [], listed: () => deciders.value.some(may), load: async () => (await import("./views/decisions")).Decisions as View },
  { name: "valet-keys", title: "Valet keys", scopes: ["valet:issue"], load: async () => (await import("./views/valet")).ValetKeys as View },
  { name: "push-and-pull", title: "Push and pull", scopes: ["sagas:read"], load: async () => (await import("./views/channels")).Channels as View },
  { name: "webhooks", title: "Webhooks", scopes: ["sagas:read"], load: async () => (await import("./views/webhooks")).Webhooks as View },
  { name: "imports", title: "Imports", scopes: ["sagas:read"], load: async () => (await import("./views/imports")).Imports as View },
  { name: "holdings", title: "Holdings", scopes: ["sagas:read"], load: async () => (await import("./views/holdings")).Holdings as View },
  { name: "dead-letters", title: "Dead letters", scopes: ["operator"], load: async () => (await import("./views/deadletters")).DeadLetters as View },
];
const visible = (place: Place): boolean => place.scopes.length === 0 || place.scopes.some(may);
const listed = (place: Place): boolean => visible(place) && (place.listed?.() ?? true);
/** Where one is who has not said where to: an insurer may see decisions alone. */
const here = (): string => path.value[0] ?? PLACES.find(listed)?.name ?? "decisions";

export function App() {
  if (!session.value) return <SignIn />;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>
        To the content
      </a>
      <Header />
      <Current />
      <Notices />
      {ended.value && <SignInAgain />}
    </>
  );
}

function Header() {
  useEffect(() => listen(() => undefined), []); // connected while the page is open
  useEffect(() => {
    deployment().then(
      ({ decided }) => (deciders.value = decided.map(({ scope }) => scope)),
      (problem: unknown) => console.warn("what is decided here:", problem), // the views say so too
    );
  }, []);
  const at = here();
  return (
    <header class="top">
      <strong class="brand">Recourse</strong>
      <nav aria-label="Views">
        {PLACES.filter(listed).map((place) => (
          <a key={place.name} href={to([place.name])} aria-current={place.name === at ? "page" : undefined}>
            {place.title}
          </a>
        ))}
      </nav>
      {may("sagas:read") && <Connection />}
      <span class="who" title={[...session.value!.scopes].join(" ")}>
        {session.value!.subject}
      </span>
      <button type="button" class="quiet" onClick={() => void signOut()}>
        Sign out
      </button>
    </header>
  );
}

const SHOWN = { websocket: "live by WebSocket", sse: "live by server-sent events", polling: "live by polling" };

function Connection() {
  const state = !online.value ? "offline" : channel.value ? "live" : "connecting";
  const text = !online.value ? "offline: trying again" : channel.value ? SHOWN[channel.value] : "connecting";
  return (
    <span class={`connection ${state}`} role="status">
      {text}
    </span>
  );
}

function Current() {
  const parts = path.value;
  const place = PLACES.find(({ name }) => name === here());
  const main = useRef<HTMLElement>(null);
  const where = parts.join("/");
  useEffect(() => {
    document.title = place ? `${place.title} · Recourse` : "Recourse";
    main.current?.focus({ preventScroll: true }); // a reader of the screen is told of the new view
  }, [where]);
  return (
    <main id="main" tabIndex={-1} ref={main}>
      {!place ? (
        <Failure problem={new Error("There is no such view.")} again={() => go(to(["sagas"]))} />
      ) : !visible(place) ? (
        <Failure problem={new Error(`You are signed in without the scope ${place.scopes.join(" or ")}.`)} />
      ) : (
        <Loaded key={place.name} place={place} parts={parts.slice(1)} />
      )}
    </main>
  );
}

const views = signal<Record<string, View>>({});
const failed = signal<Record<string, unknown>>({});

function Loaded({ place, parts }: { place: Place; parts: string[] }) {
  const [broken, recover] = useErrorBoundary((problem) => console.error(problem));
  const load = () =>
    place.load().then(
      (view) => (views.value = { ...views.value, [place.name]: view }),
      (problem: unknown) => (failed.value = { ...failed.value, [place.name]: problem }),
    );
  useEffect(() => void (views.value[place.name] ?? load()), []);
  if (broken) return <Failure problem={broken} again={recover} />;
  const Shown = views.value[place.name];
  if (Shown) return <Shown parts={parts} />;
  const problem = failed.value[place.name];
  if (!problem) return <Loading what={place.title} />;
  return <Failure problem={problem} again={() => ((failed.value = {}), void load())} />;
}

function SignIn() {
  return (
    <main class="alone">
      <h1>Recourse</h1>
      <p>Sagas, seen and steered.</p>
      {issuer() ? (
        <button type="button" class="first" onClick={() => void signIn()}>
          Sign in
        </button>
      ) : (
        <p>Nobody can sign in yet: deploy once more with the context console_url, as the output ConsoleNextStep says.</p>
      )}
    </main>
  );
}

function SignInAgain() {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} aria-labelledby="again" onCancel={(event) => event.preventDefault()}>
      <h2 id="again">Your sign-in has run out</h2>
      <p>Sign in again, in a window of its own: this page stays as it is, and goes on.</p>
      <div class="buttons">
        <button type="button" class="quiet" onClick={() => void signOut()}>
          Sign out
        </button>
        <button type="button" class="first" onClick={() => void signInAgain()}>
          Sign in again
        </button>
      </div>
    </dialog>
  );
}

import { render } from "preact";
import { readConfig } from "./api/config";
import { begin } from "./api/session";
import { App } from "./app";
import { Failure } from "./parts/states";
import "./style.css";

const place = document.getElementById("app")!;
place.replaceChildren();
try {
  await readConfig();
  if (await begin()) render(<App />, place);
} catch (problem) {
  render(
    <main class="alone">
      <h1>The console cannot begin</h1>
      <Failure problem={problem} again={() => location.assign(location.pathname)} />
    </main>,
    place,
  );
}

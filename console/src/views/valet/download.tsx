/** A document comes down by a valet key. */
import { useState } from "preact/hooks";
import { api, must } from "../../api/client";
import { Failure } from "../../parts/states";
import { redeem } from "../../parts/upload";

/** Follow a URL of S3 that is sent as an attachment: the page stays. */
export function follow(url: string): void {
  const link = document.createElement("a");
  link.href = url;
  link.rel = "noreferrer";
  link.click();
}

/** Download a document of one's own: by a key for one use. */
export function Download({ object }: { object: string }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>();
  const fetched = async () => {
    setBusy(true);
    setProblem(undefined);
    try {
      const body = { operation: "download" as const, object, expires_in: 60, max_uses: 1, upload: null };
      const issued = await must(api().POST("/valet-keys", { body }));
      follow((await redeem(issued.token)).url);
    } catch (caught) {
      setProblem(caught);
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <button type="button" disabled={busy} onClick={() => void fetched()}>
        Download
      </button>
      {problem !== undefined && <Failure problem={problem} />}
    </>
  );
}

import { defineConfig } from "vite";

/** Built into the library, which serves it: by the local cloud, and on AWS from a bucket. */
export default defineConfig({
  base: "./",
  build: {
    outDir: "../recourse/console",
    emptyOutDir: true,
    target: "es2023",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // the Content-Security-Policy has no `data:` for scripts and styles
    reportCompressedSize: true,
  },
});

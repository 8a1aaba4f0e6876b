import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// `npm run dev` shows the page against a running Sonde: SONDE_URL=http://127.0.0.1:PORT npm run dev
const target = process.env.SONDE_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [react()],
  build: {
    target: "es2022",
    // The page is served under `default-src 'self'`: nothing may become a data: URL.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { output: { entryFileNames: "assets/[name]-[hash].js" } },
  },
  server: { proxy: { "/api": { target }, "/login": { target } } },
});

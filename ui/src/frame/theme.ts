// Dark, light, or as the system says. `public/theme.js` sets it before the first paint.
import { useSyncExternalStore } from "react";

export type Theme = "system" | "dark" | "light";

const STORE = "sonde.theme";
const watchers = new Set<() => void>();
const system = matchMedia("(prefers-color-scheme: light)");

function wish(): Theme {
  try {
    const kept = localStorage.getItem(STORE);
    return kept === "dark" || kept === "light" ? kept : "system";
  } catch {
    return "system";
  }
}

function show() {
  const theme = wish();
  document.documentElement.dataset.theme = theme === "system" ? (system.matches ? "light" : "dark") : theme;
  for (const one of watchers) one();
}

system.addEventListener("change", show);

export function setTheme(theme: Theme) {
  try {
    if (theme === "system") localStorage.removeItem(STORE);
    else localStorage.setItem(STORE, theme);
  } catch {
    // Not kept over a reload; still shown now.
    document.documentElement.dataset.theme = theme === "light" ? "light" : "dark";
  }
  show();
}

const subscribe = (watcher: () => void) => {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
};

/** The wish, and what is shown now; charts draw anew when it changes. */
export function useTheme(): { wish: Theme; shown: string } {
  const both = useSyncExternalStore(
    subscribe,
    () => `${wish()} ${document.documentElement.dataset.theme ?? "dark"}`,
  );
  const [first, second] = both.split(" ");
  return { wish: first as Theme, shown: second ?? "dark" };
}

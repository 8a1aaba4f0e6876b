// All keys of the page, in one table: the handler, the help (`?`) and the rail read it.

export interface Key {
  /** One key, or two in a row (`g o`). */
  keys: string;
  what: string;
  group: "Go to" | "On every page" | "In a list";
  /** Where `g …` leads. */
  to?: "/" | "/services" | "/calls" | "/fleet" | "/settings";
}

export const KEYS = [
  { keys: "g o", what: "Overview", group: "Go to", to: "/" },
  { keys: "g s", what: "Services", group: "Go to", to: "/services" },
  { keys: "g c", what: "Calls", group: "Go to", to: "/calls" },
  { keys: "g f", what: "Fleet", group: "Go to", to: "/fleet" },
  { keys: "g ,", what: "Settings", group: "Go to", to: "/settings" },
  { keys: "/", what: "Filter", group: "On every page" },
  { keys: "t", what: "Time range (Overview, Calls)", group: "On every page" },
  { keys: "l", what: "Live on or off", group: "On every page" },
  { keys: "?", what: "This help", group: "On every page" },
  { keys: "j", what: "Next row", group: "In a list" },
  { keys: "k", what: "Previous row", group: "In a list" },
  { keys: "Enter", what: "Open the row", group: "In a list" },
  { keys: "x", what: "Select the service", group: "In a list" },
  { keys: "e", what: "Rename the open service", group: "In a list" },
  { keys: "Escape", what: "Close", group: "In a list" },
] as const satisfies readonly Key[];

export type KeyName = (typeof KEYS)[number]["keys"];

/** A second key counts for this long after the first. */
const SEQUENCE_MS = 1200;

export interface Reading {
  /** First key of a pair, and when it was pressed. */
  first?: { key: string; at: number };
}

/** The key or pair that a press completes, if any; pure, so that it can be tested. */
export function press(reading: Reading, key: string, at: number): { reading: Reading; hit?: KeyName } {
  const pending =
    reading.first !== undefined && at - reading.first.at <= SEQUENCE_MS ? reading.first.key : undefined;
  const names: readonly string[] = KEYS.map((one) => one.keys);
  if (pending !== undefined && names.includes(`${pending} ${key}`)) {
    return { reading: {}, hit: `${pending} ${key}` as KeyName };
  }
  if (names.includes(key)) return { reading: {}, hit: key as KeyName };
  return { reading: names.some((one) => one.startsWith(`${key} `)) ? { first: { key, at } } : {} };
}

/** How a key is written for people. */
export function keyLabel(keys: string): string {
  return keys === "Enter" ? "⏎" : keys === "Escape" ? "esc" : keys;
}

// The settings of controllers: their names in words, their limits, and what a layer inherits.
import type { Layer, LayerName, Node, Settings } from "../api/rows";

export interface Setting {
  name: keyof Settings;
  title: string;
  help: string;
  /** Words to choose from, or limits of a number. */
  of: { words: { value: string; name: string }[] } | { least: number; most: number; unit: string };
}

// Limits as in `crates/contract/src/settings.rs`; the dashboard checks again.
export const SETTINGS: Setting[] = [
  {
    name: "default_capture",
    title: "Capture of new services",
    help: "The level of services that nobody chose one for.",
    of: {
      words: [
        { value: "off", name: "Off" },
        { value: "network", name: "Network" },
      ],
    },
  },
  {
    name: "freeze",
    title: "SDKs in programs",
    help: "Frozen: no SDK is put into a program, and none is taken out.",
    of: {
      words: [
        { value: "false", name: "As wished" },
        { value: "true", name: "Frozen" },
      ],
    },
  },
  {
    name: "heartbeat_seconds",
    title: "Report at least every",
    help: "Pause between two reports without news. News are reported at once.",
    of: { least: 5, most: 300, unit: "s" },
  },
  {
    name: "rescan_seconds",
    title: "Look at all programs every",
    help: "A full look at the node, beside what the kernel tells at once.",
    of: { least: 1, most: 600, unit: "s" },
  },
  {
    name: "log",
    title: "Log of the controller",
    help: "How much it writes on standard error.",
    of: {
      words: ["error", "warn", "info", "debug"].map((value) => ({ value, name: value })),
    },
  },
];

const ORDER: LayerName[] = ["fleet", "environment", "cluster", "node"];

/** One layer that can be chosen. */
export interface Scope {
  layer: LayerName;
  name: string;
  /** For people: a node's host name rather than its id. */
  title: string;
}

/** All layers there are: the fleet, what nodes belong to, nodes, and layers that stand without any. */
export function scopes(nodes: Node[], layers: Layer[]): Scope[] {
  const all = new Map<string, Scope>();
  const add = (layer: LayerName, name: string | undefined, title = name) => {
    if (name === undefined || (name === "" && layer !== "fleet")) return;
    const id = `${layer} ${name}`;
    if (!all.has(id)) all.set(id, { layer, name, title: title ?? name });
  };
  add("fleet", "", "All nodes");
  const real = nodes.filter((node) => node.recorded !== true);
  for (const node of real) add("environment", node.environment);
  for (const node of real) add("cluster", node.cluster, node.cluster_name ?? node.cluster);
  for (const node of real) add("node", node.id, node.host_name);
  for (const one of layers) add(one.layer, one.name);
  return [...all.values()].sort(
    (a, b) => ORDER.indexOf(a.layer) - ORDER.indexOf(b.layer) || a.title.localeCompare(b.title),
  );
}

/** What a layer sets. */
export function settingsOf(layers: Layer[], layer: LayerName, name: string): Settings {
  return layers.find((one) => one.layer === layer && one.name === name)?.settings ?? {};
}

/** With one value set, or inherited again. */
export function changed(settings: Settings, name: keyof Settings, value: string): Settings {
  const { [name]: _, ...rest } = settings;
  if (value === "") return rest;
  const setting = SETTINGS.find((one) => one.name === name);
  const number = setting !== undefined && "least" in setting.of;
  if (name === "freeze") return { ...rest, freeze: value === "true" };
  return { ...rest, [name]: number ? Number(value) : value };
}

/** Why a value cannot be; `undefined` when it can, or is inherited. */
export function valueMistake(setting: Setting, value: string): string | undefined {
  if (value === "" || "words" in setting.of) return undefined;
  const { least, most } = setting.of;
  const number = Number(value);
  return Number.isInteger(number) && number >= least && number <= most
    ? undefined
    : `A whole number from ${least} to ${most}.`;
}

/** A value as it is shown. */
export function shown(setting: Setting, value: Settings[keyof Settings]): string {
  if (value === undefined) return "";
  if ("words" in setting.of)
    return setting.of.words.find((one) => one.value === String(value))?.name ?? String(value);
  return `${value} ${setting.of.unit}`;
}

export const LAYER_WORDS: Record<LayerName, string> = {
  fleet: "all nodes",
  environment: "its environment",
  cluster: "its cluster",
  node: "this node",
};

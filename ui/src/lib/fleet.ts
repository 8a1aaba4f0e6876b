// The fleet in words: how a node is, what it lost, tokens, and the commands that add a controller.
import type { MadeToken, Node, Settings, Token } from "../api/rows";
import { ago, plural, whole } from "./format";
import type { Tone } from "./service";

/** A node that was not heard of for so long is said to be silent; the dashboard waits 30 s at most. */
export const SILENT_MS = 60_000;

/** How a node is, in one sentence; the worst thing first. */
export function standingOf(node: Node, now: number): { tone: Tone; text: string } {
  if (node.recorded === true) return { tone: "calm", text: "played from a recording" };
  if (node.revoked === true) return { tone: "bad", text: "revoked: nothing of it is taken" };
  const silent = node.connected !== true && now - Date.parse(node.last_poll) > SILENT_MS;
  if (silent) return { tone: "bad", text: `silent for ${ago(node.last_poll, now)}` };
  const missing = (node.doctor ?? []).filter((fact) => fact.standing === "missing").length;
  if (missing > 0) return { tone: "bad", text: `no capture: ${plural(missing, "thing")} missing` };
  if (configState(node).tone === "bad") return { tone: "warn", text: "configuration not in effect" };
  if (isBehind(node)) return { tone: "pending", text: "has not taken the last wish yet" };
  const gaps = (node.doctor ?? []).filter((fact) => fact.standing !== "good").length;
  return gaps > 0
    ? { tone: "good", text: `works, ${plural(gaps, "limit")}` }
    : { tone: "good", text: "works" };
}

export const isBehind = (node: Node) => (node.desired_generation ?? 0) > node.generation;

/** Wishes taken over, of those there are. */
export function wishes(node: Node): string {
  const wanted = Math.max(node.desired_generation ?? 0, node.generation);
  if (wanted === 0) return "";
  return isBehind(node) ? `${whole(node.generation)} of ${whole(wanted)}` : whole(wanted);
}

/** Whether the configuration that a node should have is in effect. */
export function configState(node: Pick<Node, "configuration" | "applied">): { tone: Tone; text: string } {
  const wanted = node.configuration?.hash ?? "";
  const { applied } = node;
  if (wanted === "") return { tone: "calm", text: "its own" };
  if (applied?.error !== undefined && applied.error !== "") return { tone: "bad", text: applied.error };
  if (applied === undefined) {
    const nothing = Object.keys(node.configuration?.settings ?? {}).length === 0;
    return nothing ? { tone: "calm", text: "its own" } : { tone: "pending", text: "not taken over yet" };
  }
  return applied.hash === wanted
    ? { tone: "good", text: "in effect" }
    : { tone: "pending", text: "not taken over yet" };
}

/** The first characters of a hash; enough to tell two apart by eye. */
export const short = (hash: string | undefined) => (hash ?? "").slice(0, 8);

/** A setting that a node does not take over, because its own file or its kernel says otherwise. */
export function lockOf(name: keyof Settings, error: string | undefined): string | undefined {
  return error?.includes(`\`${name}\``) === true ? error : undefined;
}

/** What was lost, the most first. */
export function losses(node: Node): { reason: string; count: number }[] {
  return Object.entries(node.lost ?? {})
    .filter(([, count]) => count > 0)
    .map(([reason, count]) => ({ reason: reason.replaceAll("_", " "), count }))
    .sort((a, b) => b.count - a.count || a.reason.localeCompare(b.reason));
}

/** How long a token is still good, in words. */
export function tokenState(token: Token, now: number): { tone: Tone; text: string } {
  if (token.expired) return { tone: "calm", text: "expired" };
  if (token.uses !== undefined && token.used >= token.uses) return { tone: "calm", text: "used up" };
  if (token.expires === undefined) return { tone: "good", text: "until it is revoked" };
  const seconds = (Date.parse(token.expires) - now) / 1000;
  if (Number.isNaN(seconds)) return { tone: "calm", text: token.expires };
  if (seconds <= 0) return { tone: "calm", text: "expired" };
  const left =
    seconds < 5400
      ? plural(Math.max(1, Math.round(seconds / 60)), "minute")
      : seconds < 129_600
        ? plural(Math.round(seconds / 3600), "hour")
        : plural(Math.round(seconds / 86_400), "day");
  return { tone: "good", text: `${left} more` };
}

/** Where a controller shall run. */
export type Place = "host" | "docker" | "kubernetes";

/** An address in a form that a shell takes as one word; `undefined` for what is no address. */
export function address(text: string): string | undefined {
  try {
    const url = new URL(text.trim());
    if (url.protocol !== "http:" && url.protocol !== "https:") return undefined;
    return /^[\w.:/[\]-]+$/.test(url.origin) ? url.origin : undefined;
  } catch {
    return undefined;
  }
}

/** True for an address that means another machine on every machine. */
export function isLoopback(url: string): boolean {
  const host = (() => {
    try {
      return new URL(url).hostname;
    } catch {
      return "";
    }
  })();
  return host === "localhost" || host.endsWith(".localhost") || host === "[::1]" || /^127\./.test(host);
}

// What deploy/kubernetes grants, for the same reasons.
const GRANTS = ["BPF", "PERFMON", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "CHECKPOINT_RESTORE"];

const MOUNTS = [
  "/sys/fs/cgroup:/sys/fs/cgroup:ro",
  "/etc/machine-id:/etc/machine-id:ro",
  "/etc/passwd:/etc/passwd:ro",
  "/var/lib/sonde:/var/lib/sonde",
  "/var/run/docker.sock:/var/run/docker.sock",
];

/** Options two or three to a line, each line continued. */
function lines(options: string[]): string[] {
  const all: string[] = [];
  for (const option of options) {
    const last = all.at(-1);
    if (last !== undefined && last.length + option.length < 72) all[all.length - 1] = `${last} ${option}`;
    else all.push(option);
  }
  return all.map((line) => `  ${line} \\`);
}

/** The commands that start a controller with a join token, to copy as they are. */
export function commands(place: Place, url: string, { token }: Pick<MadeToken, "token">): string {
  // A token of the dashboard is letters, digits and `_`; anything else is not put into a shell.
  const secret = /^\w+$/.test(token) ? token : "TOKEN";
  if (place === "host") {
    return [
      "sudo install -d -m 700 /etc/sonde",
      `echo ${secret} | sudo install -m 600 /dev/stdin /etc/sonde/token`,
      `sudo sonde controller --dashboard ${url} --token-file /etc/sonde/token`,
    ].join("\n");
  }
  if (place === "docker") {
    return [
      "docker run --detach --name sonde-controller --restart unless-stopped \\",
      "  --pid host --network host --cgroupns host \\",
      "  --security-opt seccomp=unconfined --cap-drop ALL \\",
      ...lines(GRANTS.map((grant) => `--cap-add ${grant}`)),
      ...lines(MOUNTS.map((mount) => `--volume ${mount}`)),
      `  --env SONDE_TOKEN=${secret} \\`,
      `  sonde /usr/bin/sonde controller --dashboard ${url}`,
    ].join("\n");
  }
  return [
    "kubectl apply -f deploy/kubernetes/namespace.yaml",
    `kubectl create secret generic sonde-token -n sonde --from-literal=token=${secret}`,
    `sed -i 's|--dashboard=.*|--dashboard=${url}|' deploy/kubernetes/controller.yaml`,
    "kubectl apply -k deploy/kubernetes",
  ].join("\n");
}

// Rules of discovery as the controller reads them (`crates/controller/src/rules.rs`): what is wrong
// with one, and what a set of them says about each service. The dashboard checks again.
import type { Provider, Rule, Rules, Service } from "../api/rows";

export const RULE_FIELDS = ["namespace", "label", "name", "user", "path"] as const;
export type RuleField = (typeof RULE_FIELDS)[number];
export type ProviderField = "name" | "host" | "port" | "path" | "family";

/** What is wrong, by field; `rule` for the whole of it. */
export type Mistakes<Field extends string> = Partial<Record<Field | "rule", string>>;

/** Longest pattern, as the dashboard takes it. */
const MAX_CHARS = 256;
/** Longest name of a provider. */
const MAX_NAME = 64;
/** Rules of one kind. */
export const MAX_RULES = 256;

// A control character or a lone half of a pair: nothing that a name or a path is written with.
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

function patternMistake(text: string): string | undefined {
  if ([...text].length > MAX_CHARS) return `At most ${MAX_CHARS} characters.`;
  if (CONTROL.test(text)) return "Printable characters only.";
  return undefined;
}

/** Whether the whole of a text is as the pattern says; `*` stands for any run of characters. */
export function fits(pattern: string, text: string): boolean {
  const wanted = [...pattern];
  const found = [...text];
  let at = 0;
  let p = 0;
  // Where to go on when what follows the last star does not fit here. Only that star is tried again.
  let star: { p: number; at: number } | undefined;
  for (;;) {
    if (wanted[p] === "*") {
      p += 1;
      star = { p, at };
    } else if (p < wanted.length && at < found.length && wanted[p] === found[at]) {
      p += 1;
      at += 1;
    } else if (p === wanted.length && at === found.length) {
      return true;
    } else if (star !== undefined && star.at < found.length) {
      star = { p: star.p, at: star.at + 1 };
      ({ p, at } = star);
    } else {
      return false;
    }
  }
}

/** Everything that is wrong with a rule, by field. */
export function ruleMistakes(rule: Rule): Mistakes<RuleField> {
  const mistakes: Mistakes<RuleField> = {};
  for (const field of RULE_FIELDS) {
    const mistake = patternMistake(rule[field] ?? "");
    if (mistake !== undefined) mistakes[field] = mistake;
  }
  const label = rule.label;
  if (label !== undefined) {
    const { name, value } = splitLabel(label);
    if (name === "") mistakes.label = "The label has no name: write name=pattern.";
    else if (value === "")
      mistakes.label = "No pattern behind the “=”: write name=pattern, or the name alone.";
  }
  if (RULE_FIELDS.every((field) => rule[field] === undefined))
    mistakes.rule = "Give at least one: a rule that says nothing would match all.";
  return mistakes;
}

/** Everything that is wrong with a provider, by field. */
export function providerMistakes(of: Partial<Provider>): Mistakes<ProviderField> {
  const mistakes: Mistakes<ProviderField> = {};
  const name = of.name ?? "";
  const host = of.host ?? "";
  if (name === "") mistakes.name = "Needed: the name to show.";
  else if ([...name].length > MAX_NAME || CONTROL.test(name))
    mistakes.name = `1 to ${MAX_NAME} printable characters.`;
  if (host === "") mistakes.host = "Needed: a host name, in which * stands for any run of characters.";
  else if (/[/: ]/.test(host)) mistakes.host = "The host name alone; port and path have their own fields.";
  else {
    const mistake = patternMistake(host);
    if (mistake !== undefined) mistakes.host = mistake;
  }
  if (of.port !== undefined && !(Number.isInteger(of.port) && of.port >= 1 && of.port <= 65_535))
    mistakes.port = "A number from 1 to 65535.";
  if (of.path !== undefined && !of.path.startsWith("/")) mistakes.path = "Begins with “/”.";
  for (const field of ["path", "family"] as const) {
    const mistake = patternMistake(of[field] ?? "");
    if (mistake !== undefined) mistakes[field] = mistake;
  }
  return mistakes;
}

export const isClean = (mistakes: object) => Object.keys(mistakes).length === 0;

function splitLabel(label: string): { name: string; value: string } {
  const equals = label.indexOf("=");
  return equals < 0
    ? { name: label, value: "*" }
    : { name: label.slice(0, equals), value: label.slice(equals + 1) };
}

/** A rule in one line, as it is written on the command line. */
export function inWords(rule: Rule): string {
  return RULE_FIELDS.flatMap((field) => (rule[field] === undefined ? [] : [`${field}=${rule[field]}`])).join(
    ", ",
  );
}

function hits(rule: Rule, row: Service): boolean {
  const text = (name: string) => (typeof row[name] === "string" ? (row[name] as string) : undefined);
  const instances = row["sonde.instances"] ?? [];
  const among = (pattern: string | undefined, values: (string | undefined)[]) =>
    pattern === undefined || values.some((value) => value !== undefined && fits(pattern, value));
  if (!among(rule.namespace, [text("k8s.namespace.name")])) return false;
  if (!among(rule.name, [row["service.name"], row["sonde.workload.key"]])) return false;
  if (
    !among(
      rule.user,
      instances.map((one) => one["process.owner"]),
    )
  )
    return false;
  if (
    !among(
      rule.path,
      instances.map((one) => one["process.executable.path"]),
    )
  )
    return false;
  if (rule.label === undefined) return true;
  const { name, value } = splitLabel(rule.label);
  return among(value, [text(`k8s.pod.label.${name}`), text(`container.label.${name}`)]);
}

/** What rules say about one service. */
export interface Ruling {
  counts: boolean;
  /** The rule that decides, with its place; absent when none does. */
  rule?: string;
}

/** Whether a service counts by these rules, and which of them says so. A node's own rules come on top. */
export function ruling(rules: Rules, row: Service): Ruling {
  const out = rules.exclude.findIndex((rule) => isClean(ruleMistakes(rule)) && hits(rule, row));
  if (out >= 0) return { counts: false, rule: `exclude ${out + 1}: ${inWords(rules.exclude[out] ?? {})}` };
  if (rules.include.length === 0) return { counts: true };
  const kept = rules.include.findIndex((rule) => isClean(ruleMistakes(rule)) && hits(rule, row));
  return kept < 0
    ? { counts: false, rule: "no include rule matches" }
    : { counts: true, rule: `include ${kept + 1}: ${inWords(rules.include[kept] ?? {})}` };
}

/** Without the fields that are empty, and without the blanks around what was typed. */
export function typed<T extends object>(fields: T): T {
  return Object.fromEntries(
    Object.entries(fields)
      .map(([name, value]) => [name, typeof value === "string" ? value.trim() : value])
      .filter(([, value]) => value !== "" && value !== undefined),
  ) as T;
}

/** The field that a refusal of the dashboard names, as in "`host` …". */
export function fieldOf(message: string, fields: readonly string[]): string | undefined {
  return fields.find((field) => message.includes(`\`${field}\``));
}

/** A rule that leaves a service out; not certain where users or paths decide that are not known. */
export interface LeftOut {
  rule: string;
  certain: boolean;
}

/** Why nothing of a service is reported: a rule of the dashboard leaves it out, for sure or perhaps. */
export function leftOut(rules: Rules | undefined, row: Service): LeftOut | undefined {
  if (rules === undefined) return undefined;
  // Without an instance nobody knows its user and its executable: both ways are thought through.
  const open = (rule: Rule): Rule => {
    const { user: _user, path: _path, ...rest } = rule;
    return rest;
  };
  const known = (row["sonde.instances"] ?? []).length > 0;
  const strict = ruling(rules, row);
  if (known)
    return strict.rule === undefined || strict.counts ? undefined : { rule: strict.rule, certain: true };
  const found = rules.exclude.findIndex((rule) => isClean(ruleMistakes(rule)) && hits(open(rule), row));
  const included = rules.include.some((rule) => isClean(ruleMistakes(rule)) && hits(open(rule), row));
  if (!strict.counts && strict.rule !== undefined) {
    const certain = strict.rule.startsWith("exclude") || !included;
    return { rule: strict.rule, certain };
  }
  return found < 0
    ? undefined
    : { rule: `exclude ${found + 1}: ${inWords(rules.exclude[found] ?? {})}`, certain: false };
}

// The span of time that the page looks at. It lives in the URL.

export const RANGES = ["5m", "15m", "1h", "6h", "24h", "7d"] as const;
type Range = (typeof RANGES)[number];

export const DEFAULT_RANGE: Range = "1h";

const SECONDS: Record<Range, number> = {
  "5m": 300,
  "15m": 900,
  "1h": 3600,
  "6h": 21_600,
  "24h": 86_400,
  "7d": 604_800,
};
const NAMES: Record<Range, string> = {
  "5m": "Last 5 minutes",
  "15m": "Last 15 minutes",
  "1h": "Last hour",
  "6h": "Last 6 hours",
  "24h": "Last 24 hours",
  "7d": "Last 7 days",
};

/** What every page's URL may carry. Times are milliseconds since 1970. */
export interface Span {
  range?: Range;
  from?: number;
  to?: number;
}

export function isRange(value: unknown): value is Range {
  return RANGES.includes(value as Range);
}

export function rangeName(range: Range): string {
  return NAMES[range];
}

export function rangeSeconds(span: Span): number {
  if (span.from !== undefined && span.to !== undefined) return (span.to - span.from) / 1000;
  return SECONDS[span.range ?? DEFAULT_RANGE];
}

/** The span in the words of the API: `to` is absent while it moves with the clock. */
export function query(span: Span, now: number): { from: string; to?: string } {
  if (span.from !== undefined && span.to !== undefined) {
    return { from: new Date(span.from).toISOString(), to: new Date(span.to).toISOString() };
  }
  return { from: new Date(now - SECONDS[span.range ?? DEFAULT_RANGE] * 1000).toISOString() };
}

/** Takes only what makes sense out of a URL that anyone may have written. */
export function readSpan(search: Record<string, unknown>): Span {
  const from = Number(search.from);
  const to = Number(search.to);
  // Dates outside of this make toISOString throw.
  const sane = (ms: number) => Number.isFinite(ms) && ms > 0 && ms < 8.64e15;
  if (sane(from) && sane(to) && from < to) return { from, to };
  return isRange(search.range) && search.range !== DEFAULT_RANGE ? { range: search.range } : {};
}

export function spanName(span: Span): string {
  if (span.from === undefined || span.to === undefined) return NAMES[span.range ?? DEFAULT_RANGE];
  const sameDay = new Date(span.from).toDateString() === new Date(span.to).toDateString();
  const time = (ms: number, day: boolean) =>
    new Date(ms).toLocaleString("en-GB", {
      ...(day ? { day: "numeric", month: "short" } : {}),
      hour: "2-digit",
      minute: "2-digit",
      ...((span.to ?? 0) - (span.from ?? 0) < 600_000 ? { second: "2-digit" } : {}),
    });
  return `${time(span.from, !sameDay)} – ${time(span.to, !sameDay)}`;
}

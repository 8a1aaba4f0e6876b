// Numbers, money and times as the page shows them: a value and its unit, apart, so that the unit
// can be smaller and dimmer.

export interface Quantity {
  value: string;
  unit: string;
}

/** Shown where a value does not apply. */
export const NONE = "–";

/** At most three significant digits, without an exponent, thousands grouped. */
export function three(value: number): string {
  if (!Number.isFinite(value)) return NONE;
  if (value === 0) return "0";
  const digits = Math.floor(Math.log10(Math.abs(value))) + 1;
  const places = Math.max(0, Math.min(6, 3 - digits));
  const rounded = Number(value.toPrecision(3));
  // 9.996 has one digit before the point, and four after rounding to 10.0.
  const grown = Math.floor(Math.log10(Math.abs(rounded))) + 1 > digits;
  return group(rounded.toFixed(grown ? Math.max(0, places - 1) : places));
}

/** A whole number with its thousands grouped. */
export function whole(value: number): string {
  return Number.isFinite(value) ? group(Math.round(value).toString()) : NONE;
}

function group(text: string): string {
  const [before = "", after] = text.split(".");
  const grouped = before.replace(/\B(?=(\d{3})+$)/g, ",");
  return after === undefined ? grouped : `${grouped}.${after}`;
}

/** Seconds as the unit that reads best: µs, ms, s, min, h. */
export function duration(seconds: number): Quantity {
  const size = Math.abs(seconds);
  // The bounds are where three significant digits would round up into the next unit.
  if (size === 0) return { value: "0", unit: "s" };
  if (size < 0.0009995) return { value: three(seconds * 1e6), unit: "µs" };
  if (size < 0.9995) return { value: three(seconds * 1e3), unit: "ms" };
  if (size < 120) return { value: three(seconds), unit: "s" };
  if (size < 7200) return { value: three(seconds / 60), unit: "min" };
  return { value: three(seconds / 3600), unit: "h" };
}

/** A count with k, M or G from ten thousand on. */
export function count(value: number): Quantity {
  const size = Math.abs(value);
  if (size < 10_000) return { value: whole(value), unit: "" };
  if (size < 999_500) return { value: three(value / 1e3), unit: "k" };
  if (size < 999_500_000) return { value: three(value / 1e6), unit: "M" };
  return { value: three(value / 1e9), unit: "G" };
}

/** Bytes with decimal prefixes. */
export function bytes(value: number): Quantity {
  const size = Math.abs(value);
  if (size < 1000) return { value: whole(value), unit: "B" };
  if (size < 999_500) return { value: three(value / 1e3), unit: "kB" };
  if (size < 999_500_000) return { value: three(value / 1e6), unit: "MB" };
  return { value: three(value / 1e9), unit: "GB" };
}

/** A share between 0 and 1 as per cent. */
export function percent(share: number): Quantity {
  if (!Number.isFinite(share)) return { value: NONE, unit: "" };
  const value = share * 100;
  return {
    value: value >= 99.95 || value === 0 ? value.toFixed(0) : value < 10 ? value.toFixed(1) : three(value),
    unit: "%",
  };
}

/** US dollars from an exact decimal string: cents from a dollar on, three significant digits below. */
export function money(amount: string): string {
  const value = Number(amount);
  if (amount.trim() === "" || !Number.isFinite(value)) return NONE;
  if (value === 0) return "$0";
  if (value < 0.0000005) return "<$0.000001";
  if (value < 0.995) {
    // Rounding may add a digit before the first significant one: 0.09996 is 0.100.
    return `$${three(value)}`;
  }
  if (value < 100_000) return `$${group(value.toFixed(2))}`;
  const short = count(value);
  return `$${short.value} ${short.unit}`;
}

/** A round amount on an axis: without the zeros behind the cents. */
export function axisMoney(value: number): string {
  return money(String(value)).replace(/(\.\d\d)(\d*?)0+$/, "$1$2");
}

/** Adds decimal strings exactly enough for a chart or a sum on screen; unknown stays unknown. */
export function sumMoney(amounts: (string | undefined)[]): number | undefined {
  const known = amounts.filter((one): one is string => one !== undefined).map(Number);
  return known.length === 0 ? undefined : known.reduce((sum, one) => sum + one, 0);
}

/** Milliseconds since 1970, `undefined` for a text that is no time. */
export function at(time: string | undefined): number | undefined {
  if (time === undefined) return undefined;
  const value = Date.parse(time.replace(/(\.\d{3})\d+/, "$1"));
  return Number.isNaN(value) ? undefined : value;
}

const two = (value: number) => String(value).padStart(2, "0");

/** Time of day to the millisecond, in the browser's zone. */
export function clock(time: string): string {
  const ms = at(time);
  if (ms === undefined) return NONE;
  const date = new Date(ms);
  const parts = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
  return `${parts}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** The day, for a time that is not of today. */
export function day(time: string, now: number): string {
  const ms = at(time);
  if (ms === undefined) return "";
  const date = new Date(ms);
  const today = new Date(now);
  if (date.toDateString() === today.toDateString()) return "";
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
}

/** How long ago, in one short word or two: `now`, `40 s`, `5 min`, `3 h`, `2 d`. */
export function ago(time: string | undefined, now: number): string {
  const ms = at(time);
  if (ms === undefined) return "not seen";
  const seconds = Math.max(0, (now - ms) / 1000);
  if (seconds < 10) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** A width of time in words for a chart's unit: `10 s`, `5 min`, `1 h`. */
export function step(seconds: number): string {
  if (seconds % 86_400 === 0) return `${seconds / 86_400} d`;
  if (seconds % 3600 === 0) return `${seconds / 3600} h`;
  if (seconds % 60 === 0) return `${seconds / 60} min`;
  return `${seconds} s`;
}

/** A quantity in one text, for titles and labels. */
export function plain(quantity: Quantity): string {
  return quantity.unit === "" ? quantity.value : `${quantity.value} ${quantity.unit}`;
}

/** `1 call`, `2 calls`. */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${whole(value)} ${value === 1 ? one : many}`;
}

// The columns of the list of calls: one entry each, from its head to its width.
import type { CSSProperties, ReactNode } from "react";
import type { Call } from "../api/rows";
import { finish, firstToken, model, unpriced } from "../lib/call";
import { clock, day, duration, money, NONE, whole } from "../lib/format";
import { Num } from "../parts/Num";

interface Column {
  head: string;
  /** What the head means, where one word does not say it. */
  meaning?: string;
  width: string;
  /** Its width beside an open call; it is not shown there where it has none. */
  beside?: string;
  /** Pixels of what stands in for it while rows load. */
  bone: number;
  className: string;
  cell: (row: Call, now: number) => Cell;
}

interface Cell {
  content: ReactNode;
  title?: string;
  tone?: string;
}

const COLUMNS: Column[] = [
  {
    head: "Time",
    width: "104px",
    beside: "96px",
    bone: 60,
    className: "time clip keep c-time",
    cell: (row, now) => {
      const date = day(row.time, now);
      return {
        title: `${row.time}${row["sonde.recorded"] === true ? " (recorded)" : ""}`,
        content: date === "" ? clock(row.time) : `${date} ${clock(row.time).slice(0, 8)}`,
      };
    },
  },
  {
    head: "Service",
    width: "minmax(90px, 1.3fr)",
    beside: "minmax(56px, 1.2fr)",
    bone: 90,
    className: "clip keep c-service",
    cell: (row) => {
      const name = row["service.name"] ?? row["sonde.workload.key"] ?? "not known";
      return { title: name, content: row["sonde.recorded"] === true ? <Recorded name={name} /> : name };
    },
  },
  {
    head: "Model",
    width: "minmax(100px, 1.3fr)",
    beside: "minmax(80px, 1.3fr)",
    bone: 110,
    className: "clip mono dim keep c-model",
    cell: (row) => ({
      title: model(row),
      content: model(row) ?? <span className="faint">not seen</span>,
    }),
  },
  {
    head: "Finish",
    width: "minmax(80px, 1fr)",
    beside: "minmax(60px, 1fr)",
    bone: 40,
    className: "clip keep c-finish",
    cell: (row) => {
      const { tone, text } = finish(row);
      return {
        tone: tone === "plain" ? "dim" : tone,
        title: row["sonde.incomplete"] ?? text,
        content: text,
      };
    },
  },
  {
    head: "Duration",
    width: "76px",
    beside: "62px",
    bone: 40,
    className: "num keep c-duration",
    cell: (row) => seconds(row["sonde.duration"]),
  },
  {
    head: "TTFT",
    meaning: "Time to the first token, where the answer is a stream",
    width: "76px",
    beside: "62px",
    bone: 40,
    className: "num dim",
    cell: (row) => seconds(firstToken(row)),
  },
  {
    head: "In",
    meaning: "Tokens of the request, cached ones included",
    width: "66px",
    bone: 30,
    className: "num",
    cell: (row) => tokens(row["gen_ai.usage.input_tokens"]),
  },
  {
    head: "Out",
    meaning: "Tokens of the answer, those of reasoning included",
    width: "60px",
    bone: 30,
    className: "num",
    cell: (row) => tokens(row["gen_ai.usage.output_tokens"]),
  },
  {
    head: "Cost",
    width: "80px",
    beside: "66px",
    bone: 40,
    className: "num keep c-cost",
    cell: (row) => {
      const cost = row["sonde.cost"];
      if (cost !== undefined) return { title: `$${cost}`, content: money(cost) };
      return { content: <span className="faint">{unpriced(row) ? "unpriced" : NONE}</span> };
    },
  },
];

/** The widths of all columns, for the list as a whole. */
export const WIDTHS = {
  "--columns": COLUMNS.map((one) => one.width).join(" "),
  "--columns-beside": COLUMNS.flatMap((one) => one.beside ?? []).join(" "),
} as CSSProperties;

const classes = ({ className, beside }: Column) => `${className} ${beside === undefined ? "wide" : ""}`;

export function Heads() {
  return COLUMNS.map((one) => (
    <span
      key={one.head}
      role="columnheader"
      className={one.className.startsWith("num") ? (one.beside === undefined ? "num wide" : "num") : ""}
      title={one.meaning}
    >
      {one.head}
    </span>
  ));
}

export function Bones() {
  return COLUMNS.map((one) => (
    <span key={one.head} className={one.head === "Service" ? "keep" : ""}>
      <span className="bone" style={{ width: one.bone }} />
    </span>
  ));
}

export function Cells({ row, now }: { row: Call; now: number }) {
  return COLUMNS.map((one) => {
    const { content, title, tone = "" } = one.cell(row, now);
    return (
      <span key={one.head} role="cell" className={`${classes(one)} ${tone}`} title={title}>
        {content}
      </span>
    );
  });
}

function Recorded({ name }: { name: string }) {
  return (
    <>
      {name}{" "}
      <span className="tag" title="Played from a recording">
        rec<span className="sr">orded</span>
      </span>
    </>
  );
}

function seconds(of: number | undefined): Cell {
  if (of === undefined) return { content: <Num of={undefined} /> };
  return { content: <Num of={duration(of)} exact={`${of} s`} /> };
}

function tokens(of: number | undefined): Cell {
  return { content: of === undefined ? <span className="faint">{NONE}</span> : whole(of) };
}

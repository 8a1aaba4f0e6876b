// Time series: the one place that knows uPlot.
import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useTheme } from "../frame/theme";
import { type Columns, csv, cumulate } from "../lib/series";

interface Props {
  title: string;
  /** Unit and n. */
  what: string;
  columns: Columns;
  kind: "stack" | "line";
  /** Width of a bucket, seconds. */
  step: number;
  /** The span that was asked for, seconds since 1970; buckets over its edges are hatched. */
  from: number;
  to: number;
  format: (value: number) => string;
  /** Values are counts: the axis has whole numbers only. */
  counts?: boolean;
  /** Shown instead of a blank chart. */
  empty: string;
  /** Buckets with few values, drawn as dots. */
  few?: boolean[];
  onZoom: (fromMs: number, toMs: number) => void;
  /** Where "view calls" and a click on a bucket lead. */
  onCalls: (fromMs?: number, toMs?: number) => void;
}

const HEIGHT = 150;
const SYNC = "sonde";

export function Chart(props: Props) {
  const { title, what, columns, format, empty } = props;
  const [index, setIndex] = useState<number | null>(null);
  const blank = columns.series.every((one) => one.values.every((value) => value === null || value === 0));
  const short = columns.series.every((one) => one.name.length <= 6);
  const at = index === null ? undefined : columns.times[index];
  const download = () => {
    const url = URL.createObjectURL(new Blob([csv(columns)], { type: "text/csv" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = `sonde-${title.toLowerCase().replaceAll(" ", "-")}.csv`;
    link.click();
    URL.revokeObjectURL(url);
  };
  return (
    <figure className="panel chart" aria-label={`${title}, ${what}`}>
      <div className="chart-head">
        <h2>{title}</h2>
        <span className="what">{at === undefined ? what : time(at, props.step)}</span>
        <span className="links">
          <button type="button" title="View the calls behind it" onClick={() => props.onCalls()}>
            calls
          </button>{" "}
          ·{" "}
          <button type="button" title="All of its numbers as CSV" onClick={download} disabled={blank}>
            csv
          </button>
        </span>
      </div>
      {blank ? <div className="plot-empty">{empty}</div> : <Plot {...props} onIndex={setIndex} />}
      <ul className={short ? "legend columns short" : "legend columns"}>
        {blank
          ? null
          : columns.series.map((one) => {
              const value = index === null ? undefined : one.values[index];
              return (
                <li key={one.name} title={one.name}>
                  <span className="swatch" style={{ background: `var(--s${one.colour})` }} />
                  <span className="clip">{one.name}</span>
                  {index === null ? null : (
                    <span className="val">{value === null || value === undefined ? "–" : format(value)}</span>
                  )}
                </li>
              );
            })}
      </ul>
    </figure>
  );
}

function time(seconds: number, step: number): string {
  const date = new Date(seconds * 1000);
  const clock = date.toLocaleTimeString("en-GB", step < 60 ? {} : { hour: "2-digit", minute: "2-digit" });
  return step >= 3600
    ? `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${clock}`
    : clock;
}

function Plot(props: Props & { onIndex: (index: number | null) => void }) {
  const { shown } = useTheme();
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const latest = useRef(props);
  latest.current = props;
  const shape = `${props.kind} ${props.columns.series.map((one) => `${one.name} ${one.colour}`).join("\n")}`;
  const data = useMemo(() => rows(props.columns, props.kind), [props.columns, props.kind]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new plot for a new theme or other series; data is set below
  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const made = new uPlot(options(latest, element.clientWidth || 300), data, element);
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    watch.observe(element);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [shape, shown]);
  useEffect(() => plot.current?.setData(data), [data]);
  return <div className="plot" ref={box} style={{ height: HEIGHT }} />;
}

/** A stack is drawn from its top layer down, each over the one before. */
function rows(columns: Columns, kind: "stack" | "line"): uPlot.AlignedData {
  if (kind === "line") return [columns.times, ...columns.series.map((one) => one.values)];
  return [columns.times, ...cumulate(columns.series).reverse()];
}

type Latest = { current: Props & { onIndex: (index: number | null) => void } };

function options(latest: Latest, width: number): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const { kind, columns } = latest.current;
  const series = columns.series.map((one) => line(colour(`s${one.colour}`), kind, latest));
  if (kind === "stack") series.reverse();
  return {
    width,
    height: HEIGHT,
    padding: [12, 0, 0, 0],
    legend: { show: false },
    scales: {
      x: { time: true, range: () => span(latest.current) },
      y: { range: (_, __, max) => [0, max > 0 ? max * 1.04 : 1] },
    },
    axes: [
      {
        stroke: colour("faint"),
        font: `10.5px Inter, system-ui, sans-serif`,
        size: 20,
        gap: 4,
        space: 84,
        grid: { show: false },
        ticks: { show: false },
        border: { show: true, stroke: colour("line"), width: 1 },
        values: (_, splits) => splits.map((one) => tick(one, latest.current)),
      },
      { show: false },
    ],
    series: [{}, ...series],
    cursor: {
      y: false,
      points: { show: false },
      drag: { x: true, y: false, setScale: false },
      sync: { key: SYNC },
    },
    hooks: {
      ready: [(self) => click(self, latest)],
      drawClear: [(self) => grid(self, latest.current.counts === true, colour("line"))],
      draw: [
        (self) => {
          const { counts, format } = latest.current;
          edges(self, latest.current, colour("panel"));
          grid(self, counts === true, "", (value, x, y) =>
            label(self, format(value), x, y, colour("faint"), colour("panel")),
          );
        },
      ],
      setCursor: [
        (self) =>
          latest.current.onIndex(
            self.cursor.left !== undefined && self.cursor.left >= 0 ? (self.cursor.idx ?? null) : null,
          ),
      ],
      setSelect: [(self) => zoom(self, latest)],
    },
  };
}

function span({ columns, step }: Props): [number, number] {
  const first = columns.times[0] ?? 0;
  const last = columns.times.at(-1) ?? first;
  return [first, last + step];
}

function line(stroke: string, kind: "stack" | "line", latest: Latest): uPlot.Series {
  if (kind === "stack") {
    return {
      fill: stroke,
      width: 0,
      points: { show: false },
      paths: uPlot.paths.bars?.({ size: [0.82, 48], align: 1 }),
    };
  }
  return {
    stroke,
    width: 1.25,
    spanGaps: false,
    points: {
      show: true,
      size: 3,
      width: 0,
      fill: stroke,
      // Few values behind a point, or no neighbour to draw a line to.
      filter: (self, index) => {
        const values = self.data[index];
        const few = latest.current.few;
        const found: number[] = [];
        values?.forEach((value, i) => {
          if (value === null || value === undefined) return;
          const alone = (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null;
          if (alone || few?.[i] === true) found.push(i);
        });
        return found;
      },
    },
  };
}

function tick(seconds: number, { step, columns }: Props): string {
  const date = new Date(seconds * 1000);
  const wide = (columns.times.at(-1) ?? 0) - (columns.times[0] ?? 0) > 2 * 86_400;
  if (wide) return date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  const some = step < 60 && date.getSeconds() !== 0;
  return date.toLocaleTimeString("en-GB", {
    hour: "2-digit",
    minute: "2-digit",
    ...(some ? { second: "2-digit" } : {}),
  });
}

/** Three round values over the height. */
function marks(max: number, counts: boolean): number[] {
  const rough = Math.max(max / 3, counts ? 1 : 0);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step =
    [1, 2, ...(counts && power < 10 ? [] : [2.5]), 5, 10]
      .map((one) => one * power)
      .find((one) => one >= rough * 0.999) ?? rough;
  return [1, 2, 3].map((one) => one * step).filter((one) => one <= max * 1.001);
}

function grid(
  self: uPlot,
  counts: boolean,
  stroke: string,
  text?: (value: number, x: number, y: number) => void,
) {
  const max = self.scales.y?.max ?? 0;
  if (!(max > 0)) return;
  const { ctx, bbox } = self;
  ctx.save();
  for (const value of marks(max, counts)) {
    const y = Math.round(self.valToPos(value, "y", true)) + 0.5;
    if (text === undefined) {
      ctx.strokeStyle = stroke;
      ctx.lineWidth = 1;
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    } else text(value, bbox.left + bbox.width, y);
  }
  ctx.restore();
}

function label(self: uPlot, text: string, x: number, y: number, fill: string, ground: string) {
  const { ctx } = self;
  const scale = devicePixelRatio;
  ctx.font = `${10.5 * scale}px Inter, system-ui, sans-serif`;
  ctx.textAlign = "right";
  ctx.textBaseline = "bottom";
  ctx.lineJoin = "round";
  ctx.strokeStyle = ground;
  ctx.lineWidth = 4 * scale;
  ctx.strokeText(text, x, y - 1 * scale);
  ctx.fillStyle = fill;
  ctx.fillText(text, x, y - 1 * scale);
}

/** Buckets that are only partly inside the span are hatched: their numbers are not whole. */
function edges(self: uPlot, { columns, step, from, to }: Props, ground: string) {
  const { ctx, bbox } = self;
  for (const start of [columns.times[0], columns.times.at(-1)]) {
    if (start === undefined || (start >= from && start + step <= to)) continue;
    const left = self.valToPos(start, "x", true);
    const right = self.valToPos(start + step, "x", true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, bbox.top, right - left, bbox.height);
    ctx.clip();
    ctx.strokeStyle = ground;
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.beginPath();
    for (let x = left - bbox.height; x < right; x += 4 * devicePixelRatio) {
      ctx.moveTo(x, bbox.top + bbox.height);
      ctx.lineTo(x + bbox.height, bbox.top);
    }
    ctx.stroke();
    ctx.restore();
  }
}

function zoom(self: uPlot, latest: Latest) {
  const { left, width } = self.select;
  if (width < 6) return;
  const from = self.posToVal(left, "x") * 1000;
  const to = self.posToVal(left + width, "x") * 1000;
  self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  latest.current.onZoom(Math.round(from), Math.round(to));
}

/** A click on a bucket leads to its calls; the end of a drag is none. */
function click(self: uPlot, latest: Latest) {
  let down = 0;
  self.over.addEventListener("mousedown", (event) => {
    down = event.clientX;
  });
  self.over.addEventListener("mouseup", (event) => {
    if (event.button !== 0 || Math.abs(event.clientX - down) >= 4) return;
    const { columns, step, onCalls } = latest.current;
    const start = columns.times[self.cursor.idx ?? -1];
    if (start !== undefined) onCalls(start * 1000, (start + step) * 1000);
  });
}

// Six numbers of a span of time, each with its change and a small line.
import type { ReactNode } from "react";
import type { Overview as Answer } from "../api/rows";
import {
  count,
  duration,
  money,
  NONE,
  percent,
  plural,
  type Quantity,
  step,
  sumMoney,
  whole,
} from "../lib/format";
import { rangeSeconds, type Span } from "../lib/range";
import { type Change, change, errorRate } from "../lib/series";
import { Sparkline } from "../parts/Sparkline";

interface TileProps {
  name: string;
  value: ReactNode;
  /** Said instead of a value that is not known. */
  none?: string;
  exact?: string | undefined;
  change: Change;
  against: string;
  note?: string;
  line: (number | null)[];
  colour: string;
}

function Tile({ name, value, none = NONE, exact, change: moved, against, note, line, colour }: TileProps) {
  const tone = moved.verdict === "better" ? "good" : moved.verdict === "worse" ? "bad" : "";
  return (
    <div className="tile" data-testid="tile" data-name={name}>
      <div className="tile-label">{name}</div>
      <div className="tile-value" title={exact}>
        {value ?? <span className="faint">{none}</span>}
      </div>
      <div className="tile-change" title={moved.text === "" ? undefined : `against ${against}`}>
        <span className={tone}>{moved.text}</span>
        {moved.text !== "" && note === undefined ? ` vs ${against}` : ""}
        {note === undefined ? "" : `${moved.text === "" ? "" : " · "}${note}`}
      </div>
      <Sparkline values={line} colour={colour} />
    </div>
  );
}

/** Long, because the six stand one below the other. */
export function Tiles({ data, span }: { data: Answer | undefined; span: Span }) {
  if (data === undefined) return <BoneTiles />;
  const { totals, previous, series } = data;
  const enough = Math.min(totals.calls, previous.calls);
  const seconds = rangeSeconds(span);
  const against = `previous ${step(seconds % 60 === 0 ? seconds : Math.round(seconds))}`;
  const rate = errorRate(totals);
  const before = errorRate(previous);
  const output = totals.output_tokens;
  const cost = totals.cost;
  const point =
    rate === undefined || before === undefined ? { text: "" } : change(rate, before, enough, "down");
  const shift =
    rate === undefined || before === undefined
      ? ""
      : `${rate < before ? "−" : "+"}${(Math.abs(rate - before) * 100).toFixed(1)} pt`;
  return (
    <section className="panel tiles" aria-label="Numbers of this span of time">
      <Tile
        name="Calls"
        value={<Big of={count(totals.calls)} />}
        exact={whole(totals.calls)}
        change={change(totals.calls, previous.calls, enough, "none")}
        against={against}
        line={series.map((bucket) => bucket.calls)}
        colour="s1"
      />
      <Tile
        name="Error rate"
        value={rate === undefined ? undefined : <Big of={percent(rate)} />}
        exact={`${plural(totals.errors, "error")}, ${whole(totals.cancelled)} cancelled by the client`}
        change={{ ...point, text: point.text === "" || shift === "" ? "" : shift }}
        against={against}
        line={series.map((bucket) => errorRate(bucket) ?? null)}
        colour="bad"
      />
      <Tile
        name="Duration p95"
        value={totals.duration && <Big of={duration(totals.duration.p95)} />}
        exact={totals.duration && `${totals.duration.p95} s, n = ${totals.duration.count}`}
        change={change(totals.duration?.p95, previous.duration?.p95, enough, "down")}
        against={against}
        line={series.map((bucket) => bucket.duration?.p95 ?? null)}
        colour="s1"
      />
      <Tile
        name="Time to first chunk p95"
        value={totals.time_to_first_chunk && <Big of={duration(totals.time_to_first_chunk.p95)} />}
        exact={
          totals.time_to_first_chunk &&
          `${totals.time_to_first_chunk.p95} s, n = ${totals.time_to_first_chunk.count}`
        }
        change={change(totals.time_to_first_chunk?.p95, previous.time_to_first_chunk?.p95, enough, "down")}
        against={against}
        {...(totals.time_to_first_chunk === undefined && totals.calls > 0
          ? { note: `no stream among ${plural(totals.calls, "call")}` }
          : {})}
        line={series.map((bucket) => bucket.time_to_first_chunk?.p95 ?? null)}
        colour="s1"
      />
      <Tile
        name="Cost"
        value={cost === undefined ? undefined : money(cost)}
        none={totals.calls === 0 ? NONE : "unpriced"}
        exact={cost === undefined ? undefined : `$${cost}`}
        change={change(sumMoney([cost]), sumMoney([previous.cost]), enough, "none")}
        against={against}
        {...(totals.unpriced_calls > 0 ? { note: `${whole(totals.unpriced_calls)} unpriced` } : {})}
        line={series.map((bucket) => (bucket.cost === undefined ? null : Number(bucket.cost)))}
        colour="s2"
      />
      <Tile
        name="Tokens in / out"
        value={
          totals.input_tokens === undefined && output === undefined ? undefined : (
            <>
              <Big of={tokenCount(totals.input_tokens)} /> <span className="faint">/</span>{" "}
              <Big of={tokenCount(output)} />
            </>
          )
        }
        exact={`${totals.input_tokens === undefined ? "input not seen" : whole(totals.input_tokens)} in, ${output === undefined ? "output not seen" : whole(output)} out`}
        change={change(output, previous.output_tokens, enough, "none")}
        against={against}
        line={series.map((bucket) => bucket.output_tokens ?? 0)}
        colour="s6"
      />
    </section>
  );
}

const tokenCount = (value: number | undefined) =>
  value === undefined ? { value: NONE, unit: "" } : count(value);

function Big({ of }: { of: Quantity }) {
  return (
    <>
      {of.value}
      {of.unit === "" ? null : <span className="unit">{of.unit}</span>}
    </>
  );
}

function BoneTiles() {
  return (
    <section className="panel tiles" aria-busy="true">
      {Array.from({ length: 6 }, (_, i) => (
        <div className="tile" key={i}>
          <div className="tile-label">
            <span className="bone" style={{ width: 70 }} />
          </div>
          <div className="tile-value">
            <span className="bone" style={{ width: 90, height: 16 }} />
          </div>
          <div className="tile-change" />
          <svg aria-hidden="true" />
        </div>
      ))}
    </section>
  );
}

// Is it healthy, what does it cost, what changed.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { api } from "../api/client";
import type { Overview as Answer, ServiceModel } from "../api/rows";
import { spanOf } from "../frame/keys";
import { useLive, useNow, useServices, useStatus } from "../frame/live";
import { MAX_NOTICES, notices } from "../lib/attention";
import {
  at,
  axisMoney,
  count,
  duration,
  money,
  NONE,
  percent,
  plain,
  plural,
  step,
  whole,
} from "../lib/format";
import { query, type Span, spanName } from "../lib/range";
import { costs, errorRate, errors, percentiles, tokens } from "../lib/series";
import { Chart } from "../parts/Chart";
import { Failed, NoCalls } from "../parts/Empty";
import { Num } from "../parts/Num";
import { Tiles } from "./Tiles";

type Search = Span & { service?: string };

export function Overview() {
  const search = useSearch({ strict: false }) as Search;
  const { live } = useLive();
  const { range, from, to, service } = search;
  const services = useServices();
  const status = useStatus();
  const overview = useQuery({
    queryKey: ["overview", range, from, to, service],
    queryFn: () => api.overview({ ...query({ range, from, to }, Date.now()), service }),
    placeholderData: keepPreviousData,
    refetchInterval: live && to === undefined ? 15_000 : false,
  });
  const data = overview.data;
  const nothing = data !== undefined && data.totals.calls + data.totals.embeddings === 0;
  if (overview.error !== null && data === undefined) {
    return (
      <div className="panel">
        <Failed error={overview.error} retry={() => void overview.refetch()} />
      </div>
    );
  }
  return (
    <div
      className={overview.isPlaceholderData ? "overview stale" : "overview"}
      style={{ display: "contents" }}
    >
      <Tiles data={data} span={search} />
      {nothing ? (
        <div className="panel">
          <NoCalls services={services.data ?? []} status={status.data} span={spanName(search)} />
        </div>
      ) : (
        <>
          <Charts data={data} />
          <div className="lower">
            <div className="panel scroll">
              <Table data={data} />
            </div>
            <div className="side">
              <Attention data={data} />
            </div>
          </div>
        </>
      )}
      {nothing ? <Attention data={data} /> : null}
    </div>
  );
}

/** Where a chart leads: into a part of its span of time, and to the calls behind a point of it. */
function useWays() {
  const navigate = useNavigate();
  const zoom = (from: number, to: number) =>
    void navigate({
      to: ".",
      search: (old: object) => ({ ...old, range: undefined, from, to }) as never,
    });
  const calls =
    (more: Record<string, unknown> = {}) =>
    (from?: number, to?: number) =>
      void navigate({
        to: "/calls",
        search: (old: Record<string, unknown>) =>
          ({
            ...spanOf(old),
            ...(from === undefined ? {} : { range: undefined, from, to }),
            ...more,
          }) as never,
      });
  return { zoom, calls };
}

function Charts({ data }: { data: Answer | undefined }) {
  const shaped = useMemo(
    () =>
      data && {
        cost: costs(data),
        duration: percentiles(data, "duration"),
        errors: errors(data),
        tokens: tokens(data),
        few: data.series.map((bucket) => (bucket.duration?.count ?? 0) < 20),
      },
    [data],
  );
  const { zoom, calls } = useWays();
  if (data === undefined || shaped === undefined) {
    return (
      <div className="charts" aria-busy="true">
        {["a", "b", "c", "d"].map((one) => (
          <div key={one} className="panel" style={{ height: 238 }} />
        ))}
      </div>
    );
  }
  const every = step(data.step_seconds);
  const { totals } = data;
  const split = data.series.some((bucket) => bucket.cost_by_model !== undefined);
  const both = {
    step: data.step_seconds,
    from: (at(data.from) ?? 0) / 1000,
    to: (at(data.to) ?? 0) / 1000,
    onZoom: zoom,
  };
  return (
    <div className="charts">
      <Chart
        {...both}
        title={split ? "Cost by model" : "Cost"}
        what={`US$ per ${every}`}
        columns={shaped.cost}
        kind="stack"
        format={axisMoney}
        empty={
          totals.unpriced_calls > 0
            ? `${plural(totals.unpriced_calls, "call")}, none with a known price`
            : "No call cost anything."
        }
        onCalls={calls()}
      />
      <Chart
        {...both}
        title="Duration"
        what={`seconds, n = ${whole(totals.duration?.count ?? 0)}`}
        columns={shaped.duration}
        few={shaped.few}
        kind="line"
        format={(value) => plain(duration(value))}
        empty="No call went well."
        onCalls={calls()}
      />
      <Chart
        {...both}
        title="Errors by class"
        what={`per ${every}`}
        columns={shaped.errors}
        kind="stack"
        format={whole}
        counts
        empty={`No errors in ${plural(totals.calls, "call")}.`}
        onCalls={calls({ status: "error" })}
      />
      <Chart
        {...both}
        title="Tokens"
        what={`per ${every}`}
        columns={shaped.tokens}
        kind="stack"
        format={(value) => plain(count(value))}
        empty="No provider sent usage."
        onCalls={calls()}
      />
    </div>
  );
}

interface Column {
  name: string;
  of: (row: ServiceModel) => number | string | undefined;
  num?: boolean;
  /** What a short name stands for. */
  meaning?: string;
}

const COLUMNS: Column[] = [
  { name: "Service", of: (row) => row["service.name"] },
  { name: "Model", of: (row) => row["gen_ai.request.model"] },
  { name: "Calls", of: (row) => row.calls + row.embeddings, num: true },
  { name: "Errors", of: errorRate, num: true, meaning: "Share of the calls that failed" },
  { name: "p95", of: (row) => row.duration?.p95, num: true, meaning: "95 of 100 calls took no longer" },
  {
    name: "TTFC p95",
    of: (row) => row.time_to_first_chunk?.p95,
    num: true,
    meaning: "Time to the first chunk of a stream: 95 of 100 took no longer",
  },
  { name: "Tokens in", of: (row) => row.input_tokens, num: true },
  { name: "out", of: (row) => row.output_tokens, num: true, meaning: "Tokens out" },
  { name: "Cached", of: cached, num: true, meaning: "Share of the tokens in that came from a cache" },
  { name: "Cost", of: (row) => (row.cost === undefined ? undefined : Number(row.cost)), num: true },
];

function cached(row: ServiceModel): number | undefined {
  const { cache_read_tokens: read, input_tokens: input } = row;
  return read === undefined || input === undefined || input === 0 ? undefined : read / input;
}

function Table({ data }: { data: Answer | undefined }) {
  const [sort, setSort] = useState({ name: "Cost", down: true });
  const column = COLUMNS.find((one) => one.name === sort.name) ?? COLUMNS[0];
  const rows = useMemo(() => {
    const value = (row: ServiceModel) => column?.of(row);
    return [...(data?.services ?? [])].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      // What is not known is last, whichever way.
      if (x === undefined || y === undefined)
        return Number(x === undefined) - Number(y === undefined) || b.calls - a.calls;
      const order = x < y ? -1 : x > y ? 1 : 0;
      return sort.down ? -order : order;
    });
  }, [data, column, sort.down]);
  return (
    <table className="overview-table">
      <thead>
        <tr>
          {COLUMNS.map((one) => (
            <th
              key={one.name}
              className={one.num ? "num" : ""}
              aria-sort={sort.name === one.name ? (sort.down ? "descending" : "ascending") : "none"}
            >
              <button
                type="button"
                title={one.meaning}
                onClick={() =>
                  setSort({ name: one.name, down: sort.name === one.name ? !sort.down : one.num === true })
                }
              >
                {one.name}
                {sort.name === one.name ? (sort.down ? " ▾" : " ▴") : ""}
              </button>
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {data === undefined
          ? Array.from({ length: 5 }, (_, i) => (
              <tr key={i}>
                <td colSpan={10}>
                  <span className="bone" style={{ width: "60%" }} />
                </td>
              </tr>
            ))
          : rows.map((row, i) => <Row key={i} row={row} />)}
        {data?.truncated === true ? (
          <tr>
            <td colSpan={10} className="faint">
              There are more; only those with the most calls are listed.
            </td>
          </tr>
        ) : null}
      </tbody>
    </table>
  );
}

function Row({ row }: { row: ServiceModel }) {
  const service = row["service.name"] ?? row["sonde.workload.key"];
  const model = row["gen_ai.request.model"];
  const rate = errorRate(row);
  const calls = row.calls + row.embeddings;
  const hit = cached(row);
  const to = (more: Record<string, unknown>) => (old: Record<string, unknown>) =>
    ({ ...spanOf(old), service, model, ...more }) as never;
  const tokens = (value: number | undefined) => (
    <Num
      of={value === undefined ? undefined : count(value)}
      exact={value === undefined ? undefined : whole(value)}
    />
  );
  return (
    <tr className="row" data-testid="overview-row">
      <td className="keep clip">
        <Link to="/calls" search={to({ model: undefined })}>
          {service ?? <span className="faint">not known</span>}
        </Link>
      </td>
      <td className="mono dim clip">
        <Link to="/calls" search={to({})}>
          {model ?? <span className="faint">not seen</span>}
        </Link>
      </td>
      <td className="num">
        <Link to="/calls" search={to({})}>
          {whole(calls)}
        </Link>
      </td>
      <td className={rate !== undefined && rate >= 0.02 ? "num bad" : "num"}>
        <Link to="/calls" search={to({ status: "error" })}>
          <Num of={rate === undefined ? undefined : percent(rate)} exact={plural(row.errors, "error")} />
        </Link>
      </td>
      <td className="num">
        <Num
          of={row.duration && duration(row.duration.p95)}
          exact={row.duration && `${row.duration.p95} s, n = ${row.duration.count}`}
        />
      </td>
      <td className="num">
        <Num
          of={row.time_to_first_chunk && duration(row.time_to_first_chunk.p95)}
          exact={row.time_to_first_chunk && `n = ${row.time_to_first_chunk.count}`}
        />
      </td>
      <td className="num">{tokens(row.input_tokens)}</td>
      <td className="num">{tokens(row.output_tokens)}</td>
      <td className="num">
        <Num
          of={hit === undefined ? undefined : percent(hit)}
          exact={
            row.cache_read_tokens === undefined
              ? undefined
              : `${whole(row.cache_read_tokens)} read from the cache`
          }
        />
      </td>
      <td className="num keep" title={row.cost === undefined ? undefined : `$${row.cost}`}>
        {row.cost === undefined ? (
          <span className="faint">{row.unpriced_calls > 0 ? "unpriced" : NONE}</span>
        ) : (
          money(row.cost)
        )}
      </td>
    </tr>
  );
}

function Attention({ data }: { data: Answer | undefined }) {
  const services = useServices();
  const status = useStatus();
  const now = useNow();
  const all = notices(data, services.data ?? [], status.data, now);
  return (
    <section className="panel attention" aria-label="Attention" data-testid="attention">
      <h2>
        Attention <span className="faint">{all.length}</span>
      </h2>
      {all.length === 0 ? (
        <p className="faint">Nothing needs you: nothing was lost, every call has a price.</p>
      ) : null}
      <ul>
        {all.slice(0, MAX_NOTICES).map((one, i) => (
          <li key={i}>
            <span className={`dot ${one.tone}`} />
            <Link
              to={one.to}
              search={(old: Record<string, unknown>) => ({ ...spanOf(old), ...one.search }) as never}
            >
              <span className="sr">{one.tone === "bad" ? "Problem: " : "Notice: "}</span>
              <b className="strong">{one.subject}</b> {one.text}
            </Link>
            <span className="more">{one.more}</span>
          </li>
        ))}
      </ul>
      {all.length > MAX_NOTICES ? <p className="faint">and {all.length - MAX_NOTICES} more</p> : null}
    </section>
  );
}

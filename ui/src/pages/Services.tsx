// The inventory: every program that was seen to talk to a model, and its dial.
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo, useRef, useState } from "react";
import type { Service } from "../api/rows";
import { useKeys } from "../frame/keys";
import { useNow, useServices, useStatus } from "../frame/live";
import { ago, at, count, plural } from "../lib/format";
import { by, matches, runtime, sentence, strongest, type Wish, where } from "../lib/service";
import { Dial } from "../parts/Dial";
import { Empty, Failed, NoServices } from "../parts/Empty";
import { Num } from "../parts/Num";
import { State } from "../parts/State";
import { ServicePeek } from "./ServicePeek";

interface Search {
  q?: string;
  key?: string;
  service?: string;
}

export function Services() {
  const search = useSearch({ strict: false }) as Search;
  const navigate = useNavigate();
  const services = useServices();
  const status = useStatus();
  const [wishes, setWishes] = useState<Record<string, Wish>>({});
  const filter = useRef<HTMLInputElement>(null);
  const put = useCallback(
    (change: Partial<Search>) =>
      void navigate({
        to: ".",
        replace: true,
        search: (old: object) => ({ ...old, ...change }) as never,
      }),
    [navigate],
  );
  const wish = useCallback((key: string, value: Wish | undefined) => {
    setWishes(({ [key]: _, ...rest }) => (value === undefined ? rest : { ...rest, [key]: value }));
  }, []);

  const all = services.data ?? [];
  const rows = all.filter(
    (row) =>
      matches(row, search.q ?? "") &&
      (search.service === undefined ||
        row["service.name"] === search.service ||
        row["sonde.workload.key"] === search.service),
  );
  const open = all.find((row) => row["sonde.workload.key"] === search.key);
  const [cursor, setCursor] = useState<string>();
  const current = search.key ?? cursor;
  const walk = (by: number) => {
    const index = rows.findIndex((row) => row["sonde.workload.key"] === current);
    const next =
      rows[index < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, index + by))]?.["sonde.workload.key"];
    setCursor(next);
    if (open !== undefined && next !== undefined) put({ key: next });
    document
      .querySelector(`[data-testid="service-row"][data-key="${CSS.escape(next ?? "")}"]`)
      ?.scrollIntoView({ block: "nearest" });
  };
  useKeys({
    j: () => walk(1),
    k: () => walk(-1),
    Enter: () => current !== undefined && put({ key: current }),
    Escape: (event) => (event.target === filter.current ? filter.current?.blur() : put({ key: undefined })),
    "/": () => filter.current?.focus(),
  });

  return (
    <>
      <div className="line">
        <label className="filter">
          <span className="slash">/</span>
          <span className="sr">Filter services</span>
          <input
            ref={filter}
            placeholder="filter by name, key, provider:, platform:, namespace:, label:, state:"
            value={search.q ?? ""}
            onChange={(event) => put({ q: event.target.value === "" ? undefined : event.target.value })}
          />
        </label>
        <Summary all={all} shown={rows.length} />
      </div>
      <div className={`panel split fill ${services.isPlaceholderData ? "stale" : ""}`}>
        <div className="list">
          {services.error !== null && services.data === undefined ? (
            <Failed error={services.error} retry={() => void services.refetch()} />
          ) : services.data !== undefined && all.length === 0 ? (
            <NoServices status={status.data} />
          ) : services.data !== undefined && rows.length === 0 ? (
            <Empty title="No service matches the filter.">
              <p>{plural(all.length, "service")} are hidden by it.</p>
              <div>
                <button
                  type="button"
                  className="control"
                  onClick={() => put({ q: undefined, service: undefined })}
                >
                  Clear the filter
                </button>
              </div>
            </Empty>
          ) : (
            <Table
              rows={services.data === undefined ? undefined : rows}
              open={current}
              wishes={wishes}
              onWish={wish}
              onOpen={(key) => put({ key })}
              narrow={open !== undefined}
            />
          )}
        </div>
        {open === undefined ? null : (
          <ServicePeek
            row={open}
            status={status.data}
            wish={wishes[open["sonde.workload.key"]]}
            onWish={(value) => wish(open["sonde.workload.key"], value)}
            onClose={() => put({ key: undefined })}
          />
        )}
      </div>
    </>
  );
}

function Summary({ all, shown }: { all: Service[]; shown: number }) {
  const now = useNow(30_000);
  const on = all.filter((row) => row["sonde.capture.observed"] !== "off").length;
  const fresh = all.filter((row) => now - (at(row["sonde.first_seen"]) ?? 0) < 3_600_000).length;
  const parts = [
    shown === all.length ? plural(all.length, "service") : `${shown} of ${plural(all.length, "service")}`,
    `${on} watched`,
    ...(fresh > 0 ? [`${fresh} discovered in the last hour`] : []),
  ];
  return <span className="dim">{all.length === 0 ? "" : parts.join(" · ")}</span>;
}

interface TableProps {
  rows: Service[] | undefined;
  open: string | undefined;
  wishes: Record<string, Wish>;
  onWish: (key: string, wish: Wish | undefined) => void;
  onOpen: (key: string) => void;
  narrow: boolean;
}

function Table({ rows, open, wishes, onWish, onOpen, narrow }: TableProps) {
  const now = useNow();
  return (
    <table className={narrow ? "service-table narrow" : "service-table"}>
      <thead>
        <tr>
          <th className="w-name">Service</th>
          {narrow ? null : (
            <>
              <th className="w-where">Where</th>
              <th className="w-runtime">Runtime</th>
              <th className="w-to">Calls to</th>
              <th className="w-by">Recognised by</th>
            </>
          )}
          <th className="w-dial">Capture</th>
          <th className="w-state">State</th>
          {narrow ? null : (
            <>
              <th className="num w-n">Instances</th>
              <th className="num w-n">Calls/min</th>
              <th className="num w-seen">Seen</th>
            </>
          )}
        </tr>
      </thead>
      <tbody>
        {rows === undefined
          ? Array.from({ length: 6 }, (_, i) => <BoneRow key={i} />)
          : rows.map((row) => (
              <Row
                key={row["sonde.workload.key"]}
                row={row}
                now={now}
                narrow={narrow}
                selected={row["sonde.workload.key"] === open}
                wish={wishes[row["sonde.workload.key"]]}
                onWish={onWish}
                onOpen={onOpen}
              />
            ))}
      </tbody>
    </table>
  );
}

function BoneRow() {
  return (
    <tr>
      {[120, 90, 70, 60, 120, 110, 150, 30, 30, 30].map((width, i) => (
        <td key={i} className={i === 0 ? "keep" : ""}>
          <span className="bone" style={{ width }} />
        </td>
      ))}
    </tr>
  );
}

interface RowProps extends Omit<TableProps, "rows" | "open" | "wishes"> {
  row: Service;
  now: number;
  selected: boolean;
  wish: Wish | undefined;
}

function Row({ row, now, selected, wish, onWish, onOpen, narrow }: RowProps) {
  const key = row["sonde.workload.key"];
  const instances = row["sonde.instances"]?.length ?? 0;
  const rate = row["sonde.calls_per_minute"];
  const best = strongest(row);
  const give = useMemo(() => (value: Wish | undefined) => onWish(key, value), [key, onWish]);
  const recognised = best === undefined ? "" : `${by(best)} ${best.seen}`;
  return (
    <tr
      className="row"
      data-testid="service-row"
      data-key={key}
      data-name={row["service.name"]}
      aria-current={selected}
      onClick={() => onOpen(key)}
    >
      <td className="strong keep">
        <span className="named">
          <button type="button" onClick={() => onOpen(key)} title={key} className="strong clip">
            {row["service.name"]}
          </button>
          {row["sonde.recorded"] === true ? <span className="tag"> recorded</span> : null}
        </span>
      </td>
      {narrow ? null : (
        <>
          <td className="clip dim" title={where(row)}>
            {where(row)}
          </td>
          <td className="clip dim" title={runtime(row)}>
            {runtime(row)}
          </td>
          <td className="clip dim">{(row["sonde.providers"] ?? []).join(", ")}</td>
          <td className="clip dim" title={recognised}>
            {recognised}
          </td>
        </>
      )}
      <td className="keep">
        <Dial row={row} wish={wish} onWish={give} />
      </td>
      <td className="state-cell keep">
        <State of={sentence(row, wish)} />
      </td>
      {narrow ? null : (
        <>
          <td className="num">{instances === 0 ? <span className="faint">–</span> : instances}</td>
          <td className="num">
            {rate === undefined ? (
              <span className="faint">–</span>
            ) : (
              <Num of={rate < 10 ? { value: rate.toFixed(1), unit: "" } : count(rate)} exact={String(rate)} />
            )}
          </td>
          <td className="num faint" title={row["sonde.last_seen"]}>
            {ago(row["sonde.last_seen"], now)}
          </td>
        </>
      )}
    </tr>
  );
}

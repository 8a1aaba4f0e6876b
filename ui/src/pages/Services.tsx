// The inventory: every program that was seen to talk to a model, and its dial.
import { useNavigate, useSearch } from "@tanstack/react-router";
import { type ReactNode, type RefObject, useCallback, useMemo, useRef, useState } from "react";
import type { Service } from "../api/rows";
import { useKeys } from "../frame/keys";
import { useNow, useServices, useStatus } from "../frame/live";
import { Menu } from "../frame/Menu";
import { at, plural } from "../lib/format";
import { GROUPS, type Grouping, grouped } from "../lib/many";
import { matches, type Wish } from "../lib/service";
import { Empty, Failed, NoServices } from "../parts/Empty";
import { Bulk } from "./Bulk";
import { ServicePeek } from "./ServicePeek";
import { ServiceTable } from "./ServiceTable";

interface Search {
  q?: string;
  key?: string;
  service?: string;
  group?: Grouping;
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
  const groups = useGroups(services.data, search);
  // In the order of the page, so that j and k walk down it.
  const rows = groups.flatMap((one) => one.rows);
  const { selected, select, none } = useSelection();
  const [bulk, setBulk] = useState(false);
  const chosen = rows.filter((row) => selected.has(row["sonde.workload.key"]));
  const open = all.find((row) => row["sonde.workload.key"] === search.key);
  const { current, walk } = useWalk(rows, search.key, (key) => open !== undefined && put({ key }));
  useKeys({
    j: () => walk(1),
    k: () => walk(-1),
    x: () => current !== undefined && select([current], !selected.has(current)),
    Enter: () => current !== undefined && put({ key: current }),
    Escape: (event) => (event.target === filter.current ? filter.current?.blur() : put({ key: undefined })),
    "/": () => filter.current?.focus(),
  });

  return (
    <>
      <Tools
        search={search}
        put={put}
        filter={filter}
        summary={<Summary all={all} shown={rows.length} />}
        chosen={chosen.length}
        onBulk={() => setBulk(true)}
      />
      <div className={`panel split fill ${services.isPlaceholderData ? "stale" : ""}`}>
        <div className="list">
          {services.error !== null && services.data === undefined ? (
            <Failed error={services.error} retry={() => void services.refetch()} />
          ) : services.data !== undefined && all.length === 0 ? (
            <NoServices status={status.data} />
          ) : services.data !== undefined && rows.length === 0 ? (
            <NoMatch all={all.length} onClear={() => put({ q: undefined, service: undefined })} />
          ) : (
            <ServiceTable
              groups={services.data === undefined ? undefined : groups}
              grouping={search.group}
              open={current}
              selected={selected}
              onSelect={select}
              wishes={wishes}
              onWish={wish}
              onOpen={(key) => put({ key })}
              narrow={open !== undefined}
            />
          )}
        </div>
        {open === undefined ? null : (
          <ServicePeek
            key={open["sonde.workload.key"]}
            row={open}
            status={status.data}
            wish={wishes[open["sonde.workload.key"]]}
            onWish={(value) => wish(open["sonde.workload.key"], value)}
            onClose={() => put({ key: undefined })}
          />
        )}
      </div>
      {bulk ? <Bulk rows={chosen} onWish={wish} onDone={none} onClose={() => setBulk(false)} /> : null}
    </>
  );
}

/** The services that match, in their groups. */
function useGroups(all: Service[] | undefined, { q, service, group }: Search) {
  return useMemo(() => {
    const isNamed = (row: Service) =>
      service === undefined || row["service.name"] === service || row["sonde.workload.key"] === service;
    return grouped(
      (all ?? []).filter((row) => matches(row, q ?? "") && isNamed(row)),
      group,
    );
  }, [all, q, service, group]);
}

/** The row that keys act on: the open one, or the one that was walked to. */
function useWalk(rows: Service[], open: string | undefined, onWalk: (key: string) => void) {
  const [cursor, setCursor] = useState<string>();
  const current = open ?? cursor;
  const walk = (by: number) => {
    const index = rows.findIndex((row) => row["sonde.workload.key"] === current);
    const next =
      rows[index < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, index + by))]?.["sonde.workload.key"];
    setCursor(next);
    if (next !== undefined) onWalk(next);
    document
      .querySelector(`[data-testid="service-row"][data-key="${CSS.escape(next ?? "")}"]`)
      ?.scrollIntoView({ block: "nearest" });
  };
  return { current, walk };
}

/** The services that are selected, by key. */
function useSelection() {
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const select = useCallback((keys: string[], on: boolean) => {
    setSelected((old) => {
      const next = new Set(old);
      for (const key of keys) on ? next.add(key) : next.delete(key);
      return next;
    });
  }, []);
  const none = useCallback(() => setSelected(new Set()), []);
  return { selected, select, none };
}

interface ToolsProps {
  search: Search;
  put: (change: Partial<Search>) => void;
  filter: RefObject<HTMLInputElement | null>;
  summary: ReactNode;
  /** How many services are selected. */
  chosen: number;
  onBulk: () => void;
}

/** What stands above the list: which services, in which groups, and what is done with those selected. */
function Tools({ search, put, filter, summary, chosen, onBulk }: ToolsProps) {
  return (
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
      {summary}
      <Menu
        label="Group by"
        right
        value={search.group ?? ""}
        choices={[{ value: "", name: "none" }, ...GROUPS.map((value) => ({ value, name: value }))]}
        onChoose={(value) => put({ group: value === "" ? undefined : (value as Grouping) })}
      >
        <span className="hint">Group</span> <b>{search.group ?? "none"}</b>
      </Menu>
      <button
        type="button"
        className="control"
        disabled={chosen === 0}
        title={chosen === 0 ? "Select services first (x)" : undefined}
        onClick={onBulk}
      >
        {chosen === 0 ? "Set capture …" : `Set capture for ${chosen} selected …`}
      </button>
    </div>
  );
}

function NoMatch({ all, onClear }: { all: number; onClear: () => void }) {
  return (
    <Empty title="No service matches the filter.">
      <p>It hides {plural(all, "service")}.</p>
      <div>
        <button type="button" className="control" onClick={onClear}>
          Clear the filter
        </button>
      </div>
    </Empty>
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

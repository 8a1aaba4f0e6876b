// The live list of calls.
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type RefObject, useEffect, useRef, useState } from "react";
import { useKeys } from "../frame/keys";
import { useLive, useNow, useServices, useStatus } from "../frame/live";
import { type Filter, readFilter, terms, withoutTerm, withTerm } from "../lib/call";
import { plural, whole } from "../lib/format";
import { type Span, spanName } from "../lib/range";
import { Empty, Failed, NoCalls } from "../parts/Empty";
import { Bones, Cells, Heads, WIDTHS } from "./CallColumns";
import { CallPeek } from "./CallPeek";
import { type CallList, useCalls } from "./useCalls";

type Search = Span & Filter & { call?: string };

// Below this many pixels the list counts as being at its top.
const TOP = 12;

export function Calls() {
  const search = useSearch({ strict: false }) as Search;
  const navigate = useNavigate();
  const { live } = useLive();
  const [scrolled, setScrolled] = useState(false);
  const scroller = useRef<HTMLDivElement>(null);
  const { range, from, to, service, model: wanted, provider, status, filter: text } = search;
  const filter: Filter = { service, model: wanted, provider, status, filter: text };
  const list = useCalls({ range, from, to }, filter, live, scrolled || search.call !== undefined);
  const put = (change: Partial<Search>) =>
    void navigate({
      to: ".",
      replace: true,
      search: (old: object) => ({ ...old, ...change }) as never,
    });

  const rows = list.rows ?? [];
  const field = useRef<HTMLInputElement>(null);
  const { current, close } = useWalk(list, search.call, field, (call) => put({ call }));
  const release = () => {
    list.release();
    scroller.current?.scrollTo({ top: 0 });
  };
  const filtered = [service, wanted, provider, status, text].some((one) => one !== undefined);
  return (
    <>
      <div className="line">
        <FilterLine
          field={field}
          filter={filter}
          wrong={text !== undefined && list.error !== null}
          onPut={put}
        />
        <span className="dim" data-testid="call-count">
          {list.rows === undefined
            ? ""
            : `${whole(rows.length)}${list.more ? "+" : ""} ${rows.length === 1 && !list.more ? "call" : "calls"}`}
        </span>
        {list.waiting > 0 ? (
          <button type="button" className="control on" onClick={release} data-testid="new-calls">
            <span className="dot good" /> {whole(list.waiting)} new
          </button>
        ) : null}
      </div>
      <div
        className={`panel split fill ${list.stale ? "stale" : ""} ${search.call === undefined ? "" : "peeking"}`}
      >
        <div
          className="list"
          ref={scroller}
          onScroll={(event) => setScrolled(event.currentTarget.scrollTop > TOP)}
        >
          {list.error !== null && list.rows === undefined ? (
            <Failed error={list.error} retry={list.retry} />
          ) : list.rows !== undefined && rows.length === 0 && list.more ? (
            <Further list={list} />
          ) : list.rows !== undefined && rows.length === 0 ? (
            <None
              filtered={filtered}
              span={search}
              onClear={() =>
                put({
                  service: undefined,
                  model: undefined,
                  provider: undefined,
                  status: undefined,
                  filter: undefined,
                })
              }
            />
          ) : (
            <List list={list} scroller={scroller} current={current} onOpen={(id) => put({ call: id })} />
          )}
        </div>
        {search.call === undefined ? null : (
          <CallPeek
            id={search.call}
            known={rows.find((row) => row["sonde.call.id"] === search.call)}
            onClose={close}
            onFilter={put}
          />
        )}
      </div>
    </>
  );
}

/** The row that keys act on; it is the open one, or the one that was open last. */
function useWalk(
  list: CallList,
  open: string | undefined,
  field: RefObject<HTMLInputElement | null>,
  onOpen: (id: string | undefined) => void,
) {
  const [cursor, setCursor] = useState<string>();
  const current = open ?? cursor;
  const rows = list.rows ?? [];
  const walk = (by: number) => {
    const index = rows.findIndex((row) => row["sonde.call.id"] === current);
    const next = index < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, index + by));
    const id = rows[next]?.["sonde.call.id"];
    if (id === undefined) return;
    setCursor(id);
    if (open !== undefined) onOpen(id);
    if (next > rows.length - 5 && list.more && !list.loading) list.older();
  };
  const close = () => {
    setCursor(open);
    onOpen(undefined);
  };
  useKeys({
    j: () => walk(1),
    k: () => walk(-1),
    Enter: () => current !== undefined && onOpen(current),
    Escape: (event) => {
      if (event.target === field.current) field.current?.blur();
      else if (open !== undefined) close();
      else setCursor(undefined);
    },
    "/": () => field.current?.focus(),
  });
  return { current, close };
}

function None({ filtered, span, onClear }: { filtered: boolean; span: Span; onClear: () => void }) {
  const services = useServices();
  const status = useStatus();
  if (!filtered) return <NoCalls services={services.data ?? []} status={status.data} span={spanName(span)} />;
  return (
    <Empty title="No call matches.">
      <p>Looked for calls ({spanName(span).toLowerCase()}) that match all of the filters above.</p>
      <div>
        <button type="button" className="control" onClick={onClear}>
          Clear the filters
        </button>
      </div>
    </Empty>
  );
}

/** The search was ended before it found a call, because it took too long. */
function Further({ list }: { list: CallList }) {
  return (
    <Empty title="No call was found so far.">
      <p>The search took too long and was ended; older calls of this span of time were not looked at yet.</p>
      <div>
        <button type="button" className="control" disabled={list.loading} onClick={list.older}>
          {list.loading ? "Looking further" : "Look further"}
        </button>
      </div>
    </Empty>
  );
}

interface FilterLineProps {
  field: RefObject<HTMLInputElement | null>;
  filter: Filter;
  /** Whether the dashboard refused it. */
  wrong: boolean;
  onPut: (change: Partial<Search>) => void;
}

function FilterLine({ field, filter, wrong, onPut }: FilterLineProps) {
  const [text, setText] = useState("");
  const take = () => {
    const found = readFilter(text);
    const all = terms(found.filter ?? "").reduce(withTerm, filter.filter ?? "");
    setText("");
    onPut({ ...found, filter: all === "" ? undefined : all });
  };
  const chips = (["service", "model", "provider", "status"] as const).filter(
    (name) => filter[name] !== undefined,
  );
  return (
    <div className="filter">
      <span className="slash">/</span>
      {chips.map((name) => (
        <span className="chip" key={name}>
          <span className="faint">{name}:</span>
          <span className="clip">{filter[name]}</span>
          <button
            type="button"
            aria-label={`Remove the filter ${name}`}
            onClick={() => onPut({ [name]: undefined })}
          >
            ×
          </button>
        </span>
      ))}
      {terms(filter.filter ?? "").map((term) => (
        <span className="chip" key={term}>
          <span className="clip">{term}</span>
          <button
            type="button"
            aria-label={`Remove the filter ${term}`}
            onClick={() => onPut({ filter: withoutTerm(filter.filter, term) })}
          >
            ×
          </button>
        </span>
      ))}
      <input
        ref={field}
        aria-label="Filter calls"
        aria-invalid={wrong}
        placeholder="model:gpt-4o* status:error duration:>5s cost:>0.01 -tool:search"
        title="field:value, field:>value or field:a..b; a minus leaves out, a star is any text, and a word alone is looked for everywhere. A field that is not known is answered with the list of all."
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => event.key === "Enter" && take()}
      />
    </div>
  );
}

interface ListProps {
  list: CallList;
  scroller: RefObject<HTMLDivElement | null>;
  current: string | undefined;
  onOpen: (id: string) => void;
}

const small = matchMedia("(max-width: 720px)");

function useRowHeight(): number {
  const [isSmall, set] = useState(small.matches);
  useEffect(() => {
    const change = () => set(small.matches);
    small.addEventListener("change", change);
    return () => small.removeEventListener("change", change);
  }, []);
  return isSmall ? 52 : 33;
}

function List({ list, scroller, current, onOpen }: ListProps) {
  const now = useNow(60_000);
  const height = useRowHeight();
  const rows = list.rows;
  const virtual = useVirtualizer({
    count: rows?.length ?? 12,
    getScrollElement: () => scroller.current,
    estimateSize: () => height,
    overscan: 12,
    getItemKey: (index) => rows?.[index]?.["sonde.call.id"] ?? index,
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: rows have one height each, all the same
  useEffect(() => virtual.measure(), [height]);
  const index = rows?.findIndex((row) => row["sonde.call.id"] === current) ?? -1;
  // biome-ignore lint/correctness/useExhaustiveDependencies: follows the selection, not the rows above it
  useEffect(() => {
    if (index >= 0) virtual.scrollToIndex(index, { align: "auto" });
  }, [current]);
  return (
    <div role="table" aria-label="Calls" aria-rowcount={(rows?.length ?? 0) + 1} style={WIDTHS}>
      <div role="row" aria-rowindex={1} className="calls-head">
        <Heads />
      </div>
      <div className="calls-body" role="rowgroup" style={{ height: virtual.getTotalSize() }}>
        {virtual.getVirtualItems().map((item) => {
          const row = rows?.[item.index];
          const id = row?.["sonde.call.id"];
          return (
            <div
              key={item.key}
              role="row"
              aria-rowindex={item.index + 2}
              aria-current={id !== undefined && id === current}
              className="call-row"
              data-testid={row === undefined ? undefined : "call-row"}
              data-id={id}
              data-fresh={id !== undefined && list.fresh.has(id)}
              style={{ transform: `translateY(${item.start}px)` }}
              onClick={() => id !== undefined && onOpen(id)}
            >
              {row === undefined ? <Bones /> : <Cells row={row} now={now} />}
            </div>
          );
        })}
      </div>
      {list.more ? (
        <div className="list-end">
          <button type="button" className="control" disabled={list.loading} onClick={list.older}>
            {list.loading ? "Loading older calls" : "Load older calls"}
          </button>
        </div>
      ) : rows === undefined || rows.length < 20 ? null : (
        <div className="list-end">
          {plural(rows.length, "call")}; the first of this span of time is above.
        </div>
      )}
    </div>
  );
}

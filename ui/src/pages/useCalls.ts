// The list of calls: pages of older ones from the API, newer ones from the stream of events.
import { useInfiniteQuery } from "@tanstack/react-query";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { api } from "../api/client";
import { follow, type Happening, listen } from "../api/events";
import type { Call } from "../api/rows";
import { type Filter, merge, passes } from "../lib/call";
import { query, type Span } from "../lib/range";

const PAGE = 100;

// A tab that is left open must not grow for ever; older rows come back from the API.
const MAX_FRESH = 5000;

export interface CallList {
  rows: Call[] | undefined;
  /** Rows that arrived while the list was held. */
  waiting: number;
  /** Shows them. */
  release: () => void;
  /** Ids that arrived by themselves a moment ago. */
  fresh: Set<string>;
  error: Error | null;
  loading: boolean;
  stale: boolean;
  more: boolean;
  older: () => void;
  retry: () => void;
}

/** `held`: rows that arrive are counted, not shown, so that the list stands still. */
export function useCalls(span: Span, filter: Filter, live: boolean, held: boolean): CallList {
  const name = JSON.stringify([span, filter]);
  const pages = useInfiniteQuery({
    queryKey: ["calls", name],
    queryFn: ({ pageParam }) =>
      api.calls({ limit: PAGE, before: pageParam, ...filter, ...query(span, Date.now()) }),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next,
    // Rows do not change; what is new arrives by itself.
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: 0,
  });
  const [shown, setShown] = useState<{ name: string; rows: Call[] }>({ name, rows: [] });
  const [waiting, setWaiting] = useState<Call[]>([]);
  const hold = useRef(held);
  hold.current = held;
  const moving = span.to === undefined;
  const { refetch } = pages;

  // biome-ignore lint/correctness/useExhaustiveDependencies: `name` stands for the filter and the span
  useEffect(() => {
    setShown({ name, rows: [] });
    setWaiting([]);
    if (!live || !moving) return;
    let batch: Call[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const flush = () => {
      timer = undefined;
      const rows = batch;
      batch = [];
      if (hold.current) setWaiting((old) => merge(rows, old).slice(0, MAX_FRESH));
      else setShown((old) => ({ name, rows: merge(rows, old.rows).slice(0, MAX_FRESH) }));
    };
    const happening: Happening = {
      call: (row) => {
        if (!passes(row, filter)) return;
        batch.push(row);
        timer ??= setTimeout(flush, 200);
      },
      reopened: () => void refetch(),
    };
    const stop = filter.filter === undefined ? listen(happening) : follow(filter.filter, happening);
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [name, live, moving, refetch]);

  const release = useCallback(() => {
    setWaiting((rows) => {
      if (rows.length > 0)
        setShown((old) => ({ name: old.name, rows: merge(rows, old.rows).slice(0, MAX_FRESH) }));
      return [];
    });
  }, []);

  const { data } = pages;
  const rows = useMemo(() => {
    if (data === undefined) return undefined;
    const older = data.pages.flatMap((page) => page.calls);
    return merge(shown.name === name ? shown.rows : [], older);
  }, [data, shown, name]);
  const fresh = useMemo(() => new Set(shown.rows.slice(0, 50).map((row) => row["sonde.call.id"])), [shown]);

  return {
    rows,
    waiting: waiting.length,
    release,
    fresh,
    error: pages.error,
    loading: pages.isFetchingNextPage,
    stale: pages.isFetching && !pages.isFetchingNextPage && data !== undefined,
    more: pages.hasNextPage,
    older: () => void pages.fetchNextPage(),
    retry: () => void refetch(),
  };
}

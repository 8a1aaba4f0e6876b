// Live or not, for the whole page, and the queries that live keeps fresh.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, useContext, useEffect, useState } from "react";
import { api } from "../api/client";
import { listen } from "../api/events";
import { at } from "../lib/format";

export const Live = createContext<{ live: boolean; setLive: (live: boolean) => void }>({
  live: true,
  setLive: () => {},
});

export const useLive = () => useContext(Live);

/** A clock for "how long ago", once in a while. */
export function useNow(everyMs = 5000): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

export function useStatus() {
  return useQuery({ queryKey: ["status"], queryFn: api.status, refetchInterval: 10_000 });
}

/** How far the dashboard's clock is ahead of this browser's, in milliseconds. */
export function useAhead(): number {
  const { data, dataUpdatedAt } = useStatus();
  const theirs = at(data?.time);
  return theirs === undefined ? 0 : theirs - dataUpdatedAt;
}

/** Rules of discovery, as the dashboard keeps them. */
export function useRules() {
  return useQuery({ queryKey: ["rules"], queryFn: api.rules, staleTime: 10_000 });
}

export function useServices() {
  const { live } = useLive();
  return useQuery({
    queryKey: ["services"],
    queryFn: api.services,
    select: (answer) => answer.services,
    refetchInterval: (query) => {
      const waits =
        query.state.data?.services.some((row) => row["sonde.capture.state"] === "pending") ?? false;
      // The stream of events says most; this covers rates and ages.
      return waits ? 1000 : live ? 10_000 : false;
    },
  });
}

// Many calls a second must not mean many overviews a second.
const OVERVIEW_EVERY_MS = 3000;

/** Turns events into refetches, while live. */
export function useRefresh(live: boolean) {
  const client = useQueryClient();
  useEffect(() => {
    if (!live) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const soon = () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        void client.invalidateQueries({ queryKey: ["overview"] });
      }, OVERVIEW_EVERY_MS);
    };
    const services = () => void client.invalidateQueries({ queryKey: ["services"] });
    const status = () => void client.invalidateQueries({ queryKey: ["status"] });
    const stop = listen({
      call: soon,
      services,
      status,
      reopened: () => {
        services();
        status();
        soon();
      },
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [client, live]);
}

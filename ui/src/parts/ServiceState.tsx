// The state of a service; while it is pending, with a clock of its own.
import { useQuery } from "@tanstack/react-query";
import { api } from "../api/client";
import type { Service } from "../api/rows";
import { useAhead, useNow, useRules } from "../frame/live";
import { leftOut } from "../lib/rules";
import { dial, pollOf, sentence, type Wish } from "../lib/service";
import { State } from "./State";

interface Props {
  row: Service;
  wish: Wish | undefined;
  whole?: boolean;
}

export function ServiceState({ row, wish, whole = false }: Props) {
  const rules = useRules();
  if (dial(row, wish).pending) return <Pending row={row} wish={wish} whole={whole} />;
  return <State of={sentence(row, { wish, leftOut: leftOut(rules.data, row) })} whole={whole} />;
}

// Often enough to see that it counts, and seldom enough to cost nothing.
const TICK_MS = 200;
const STATUS_EVERY_MS = 1000;

function Pending({ row, wish, whole }: Props) {
  const now = useNow(TICK_MS);
  const ahead = useAhead();
  const status = useQuery({
    queryKey: ["status"],
    queryFn: api.status,
    refetchInterval: STATUS_EVERY_MS,
  });
  const poll = pollOf(row, status.data?.instances ?? [], now, ahead);
  return <State of={sentence(row, { wish, poll })} whole={whole === true} />;
}

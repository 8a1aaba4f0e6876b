// What happened to a service, newest first.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { api } from "../api/client";
import type { Happened, Node } from "../api/rows";
import { useLive } from "../frame/live";
import { ago, clock, day } from "../lib/format";
import { type Deed, deeds, told } from "../lib/history";

// Enough to see what happened lately; the rest comes with a click.
const SHORT = 8;

export function History({
  id,
  nodes,
  now,
  all,
  onAll,
}: {
  id: string;
  nodes: Node[];
  now: number;
  all: boolean;
  onAll: () => void;
}) {
  const { live } = useLive();
  const history = useQuery({
    queryKey: ["history", id],
    queryFn: () => api.history(id),
    refetchInterval: live ? 5000 : false,
  });
  const entries = history.data?.entries;
  const asked = entries?.some((one) => one.step !== undefined) === true;
  const steps = useQuery({ queryKey: ["steps"], queryFn: api.steps, enabled: asked, staleTime: 5000 });
  const changes = Object.fromEntries((steps.data?.steps ?? []).map((one) => [one.id, one.change]));
  if (entries === undefined)
    return (
      <p className={history.isError ? "bad" : "faint"}>{history.isError ? history.error.message : "…"}</p>
    );
  if (entries.length === 0)
    return <p className="faint">Nothing yet: nobody chose a level or a name, and its state never changed.</p>;
  const can = deeds(entries);
  const shown = all ? entries : entries.slice(0, SHORT);
  return (
    <>
      <ol className="history" data-testid="history">
        {shown.map((entry, i) => {
          const { tone, what, who, why, details } = told(entry, nodes, changes);
          const on = day(entry.time, now);
          const deed = can.get(i);
          return (
            <li key={i}>
              <span className={`dot ${tone}`} />
              <span>
                {what} <span className="faint">· {who}</span>
                {why === "" ? null : <span className="why">{why}</span>}
                {deed === undefined ? null : <Act deed={deed} entry={entry} id={id} />}
                {details.map((one) => (
                  <details key={one.name}>
                    <summary>{one.name}</summary>
                    <pre className="mono">{one.text}</pre>
                  </details>
                ))}
              </span>
              <time dateTime={entry.time} title={`${on} ${clock(entry.time)}`.trim()} className="faint">
                {ago(entry.time, now)}
              </time>
            </li>
          );
        })}
      </ol>
      {entries.length > shown.length ? (
        <button type="button" className="control" onClick={onAll}>
          {entries.length - shown.length} older
        </button>
      ) : null}
    </>
  );
}

function Act({ deed, entry, id }: { deed: Deed; entry: Happened; id: string }) {
  const client = useQueryClient();
  const act = useMutation<unknown, Error>({
    mutationFn: () =>
      deed === "cancel" ? api.cancelStep(entry.step ?? "") : api.retry(id, entry.instance ?? ""),
    onSettled: () => client.invalidateQueries({ queryKey: ["history", id] }),
  });
  return (
    <>
      {" "}
      <button type="button" className="control" disabled={act.isPending} onClick={() => act.mutate()}>
        {deed === "cancel" ? "cancel" : "try again"}
      </button>
      {act.isError ? <span className="why bad">{act.error.message}</span> : null}
    </>
  );
}

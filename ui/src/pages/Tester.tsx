// What rules say about each service: as they are kept, and as they would be.
import { useState } from "react";
import type { Rules, Service } from "../api/rows";
import { plural } from "../lib/format";
import { type Ruling, ruling } from "../lib/rules";
import { where } from "../lib/service";
import { Empty } from "../parts/Empty";
import { useMost } from "../parts/Some";

interface Props {
  kept: Rules;
  /** With what is being written; absent when nothing is. */
  draft: Rules | undefined;
  services: Service[] | undefined;
}

interface Tried {
  row: Service;
  now: Ruling;
  next: Ruling;
}

export function Tester({ kept, draft, services }: Props) {
  const [filter, setFilter] = useState("");
  const tried: Tried[] = (services ?? []).map((row) => {
    const now = ruling(kept, row);
    return { row, now, next: draft === undefined ? now : ruling(draft, row) };
  });
  const changed = tried.filter((one) => one.now.counts !== one.next.counts);
  const out = tried.filter((one) => !one.next.counts).length;
  const wanted = filter.trim().toLowerCase();
  const shown = tried
    .filter(
      ({ row }) =>
        wanted === "" ||
        row["service.name"].toLowerCase().includes(wanted) ||
        row["sonde.workload.key"].toLowerCase().includes(wanted),
    )
    // What changes first, then what is left out.
    .sort((a, b) => rank(a) - rank(b));
  const { most, more } = useMost(shown.length);
  return (
    <section className="panel tester" aria-label="What the rules do" data-testid="tester">
      <div className="panel-head">
        <h2>What the rules do</h2>
        <span className="dim" role="status">
          {draft === undefined
            ? `${tried.length - out} of ${plural(tried.length, "service")} count`
            : changed.length === 0
              ? "no service would change"
              : `would change ${plural(changed.length, "service")}`}
        </span>
      </div>
      {services === undefined ? null : services.length === 0 ? (
        <NoSubjects />
      ) : (
        <>
          <label className="filter">
            <span className="sr">Filter the services</span>
            <input
              value={filter}
              placeholder="try on: name or key"
              onChange={(event) => setFilter(event.target.value)}
            />
          </label>
          <ul className="rulings">
            {shown.slice(0, most).map(({ row, now, next }) => (
              <li
                key={row["sonde.workload.key"]}
                data-testid="ruling"
                data-counts={next.counts}
                data-changed={now.counts !== next.counts}
              >
                <span className={`dot ${next.counts ? "good" : ""}`} />
                <span className="strong clip" title={row["sonde.workload.key"]}>
                  {row["service.name"]}
                </span>
                <span className={now.counts === next.counts ? "faint" : "warn"}>{verdict(now, next)}</span>
                <span className="faint clip under">
                  {next.rule === undefined ? where(row) : `${where(row)} · ${next.rule}`}
                </span>
              </li>
            ))}
          </ul>
          {more}
          {shown.length === 0 ? <p className="panel-note faint">No service is called so.</p> : null}
        </>
      )}
      <p className="panel-note faint">
        Rules of a node’s own file come on top: both must let a program pass. On a node,{" "}
        <span className="mono">sonde services test-rules</span> tells those too.
      </p>
    </section>
  );
}

const rank = ({ now, next }: Tried) => (now.counts === next.counts ? (next.counts ? 2 : 1) : 0);

function verdict(now: Ruling, next: Ruling): string {
  if (now.counts === next.counts) return next.counts ? "counts" : "left out";
  return next.counts ? "would count again" : "would be left out";
}

/** Nothing to test on. */
function NoSubjects() {
  return (
    <Empty title="No service to try a rule on yet.">
      <p>
        Programs appear here when they make their first call to a model. Rules can be written before that.
      </p>
    </Empty>
  );
}

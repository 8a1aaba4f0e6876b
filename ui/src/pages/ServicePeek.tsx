// One service in full: its key, its processes, and how it was recognised.
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import type { Coverage, Instance, Service, Status } from "../api/rows";
import { spanOf } from "../frame/keys";
import { useNow } from "../frame/live";
import { ago, plural } from "../lib/format";
import { by, coverage, runtime, sure, tiers, type Wish, where } from "../lib/service";
import { Dial } from "../parts/Dial";
import { Details, Facts, Peek } from "../parts/Peek";
import { ServiceName } from "../parts/ServiceName";
import { ServiceState } from "../parts/ServiceState";
import { History } from "./History";
import { Rollout } from "./Rollout";

interface Props {
  row: Service;
  status: Status | undefined;
  wish: Wish | undefined;
  onWish: (wish: Wish | undefined) => void;
  onClose: () => void;
}

// Attributes that stand elsewhere in the panel.
const SHOWN = /^(service\.name|host\.name|process\..*|sonde\..*)$/;
const LABEL = /^(?:k8s\.pod|container)\.label\./;

export function ServicePeek({ row, status, wish, onWish, onClose }: Props) {
  const now = useNow();
  const instances = row["sonde.instances"] ?? [];
  const [all, setAll] = useState(false);
  const rate = row["sonde.calls_per_minute"];
  return (
    <Peek label="Service" onClose={onClose} title={<ServiceName row={row} />} sub={where(row)}>
      <Facts
        of={[
          { name: "Calls/min", value: rate === undefined ? "–" : rate.toFixed(1) },
          { name: "Instances", value: instances.length === 0 ? "–" : instances.length },
          {
            name: "First seen",
            value: <span title={row["sonde.first_seen"]}>{ago(row["sonde.first_seen"], now)}</span>,
          },
          {
            name: "Last seen",
            value: <span title={row["sonde.last_seen"]}>{ago(row["sonde.last_seen"], now)}</span>,
          },
        ]}
      />
      <div className="line">
        <Dial row={row} wish={wish} onWish={onWish} />
        <Link
          className="control"
          to="/calls"
          search={(old: Record<string, unknown>) =>
            ({ ...spanOf(old), service: row["service.name"] }) as never
          }
        >
          Its calls
        </Link>
      </div>
      <div className="peek-state">
        <ServiceState row={row} wish={wish} whole />
      </div>
      <Known row={row} />
      {row["sonde.agent"] === undefined ? null : (
        <>
          <h3 className="section">
            <b>SDK in the program</b>
          </h3>
          <Rollout of={row["sonde.agent"]} />
        </>
      )}
      <Evidence row={row} now={now} />
      {row["sonde.recorded"] === true ? null : (
        <>
          <h3 className="section">
            <b>History</b>
          </h3>
          <History
            id={row["sonde.workload.key"]}
            nodes={status?.instances ?? []}
            now={now}
            all={all}
            onAll={() => setAll(true)}
          />
        </>
      )}
      <h3 className="section">
        <b>Instances</b>{" "}
        {instances.length === 0 ? "none is running" : plural(instances.length, "process", "processes")}
      </h3>
      {instances.map((one) => (
        <Process key={one["process.pid"]} of={one} now={now} />
      ))}
    </Peek>
  );
}

/** What is known of it, one thing a line. */
function Known({ row }: { row: Service }) {
  return (
    <Details
      of={[
        { name: "key", value: row["sonde.workload.key"], mono: true },
        { name: "platform", value: row["sonde.platform"] },
        { name: "node", value: row["host.name"] },
        { name: "runtime", value: runtime(row) },
        { name: "TLS library", value: row["sonde.tls"], how: "where its traffic is read" },
        { name: "providers", value: (row["sonde.providers"] ?? []).join(", ") },
        { name: "models", value: (row["sonde.models"] ?? []).join(", ") },
        {
          name: "capture",
          value: `${row["sonde.capture.observed"]} in effect, ${row["sonde.capture.desired"]} wanted`,
        },
        ...more(row),
      ]}
    />
  );
}

function Evidence({ row, now }: { row: Service; now: number }) {
  const found = tiers(row);
  return (
    <>
      <h3 className="section">
        <b>How it was recognised</b>
      </h3>
      {found.length === 0 ? <p className="faint">Nothing is recorded about it.</p> : null}
      <ul className="evidence" data-testid="evidence">
        {found.map((tier) => (
          <li key={tier.by}>
            <span>{tier.found[0] === undefined ? tier.by : by(tier.found[0])}</span>
            <span className="faint">
              {tier.found[0] === undefined || sure(tier.found[0]).word === "" ? null : (
                <>
                  <span className={`dot ${sure(tier.found[0]).tone}`} /> {sure(tier.found[0]).word}
                </>
              )}
            </span>
            <ul>
              {tier.found.map((one, i) => (
                <li key={i}>
                  <span className="mono">{one.seen}</span> <span className="dim">{one.provider}</span>{" "}
                  <span className="faint" title={one.last_seen}>
                    {ago(one.last_seen, now)}
                  </span>
                </li>
              ))}
            </ul>
          </li>
        ))}
      </ul>
    </>
  );
}

/** Attributes without a place of their own, labels last. */
function more(of: Service | Instance) {
  const rank = (name: string) => (LABEL.test(name) ? 1 : 0);
  return Object.entries(of)
    .filter(([name, value]) => !SHOWN.test(name) && (typeof value === "string" || typeof value === "number"))
    .sort(([a], [b]) => rank(a) - rank(b) || a.localeCompare(b))
    .map(([name, value]) => ({ name: name.replace(LABEL, "label "), value: String(value), mono: true }));
}

function Covered({ of }: { of: Coverage }) {
  const { tone, word, reason } = coverage(of);
  return (
    <>
      <span className={`dot ${tone}`} /> {word}
      {reason === "" ? "" : `: ${reason}`}
    </>
  );
}

function Process({ of, now }: { of: Instance; now: number }) {
  const started = of["process.creation.time"];
  return (
    <Details
      of={[
        {
          name: "pid",
          value: of["process.pid"],
          how: started === undefined ? "" : `started ${ago(started, now)} ago`,
        },
        { name: "arguments", value: of["process.command_args"]?.join(" "), mono: true },
        { name: "executable", value: of["process.executable.path"], mono: true },
        { name: "user", value: of["process.owner"] },
        { name: "runtime", value: runtime(of) },
        { name: "directory", value: of["process.working_directory"], mono: true },
        { name: "TLS library", value: of["sonde.tls"] },
        {
          name: "its traffic",
          value: of["sonde.coverage"] === undefined ? undefined : <Covered of={of["sonde.coverage"]} />,
        },
        ...more(of),
      ]}
    />
  );
}

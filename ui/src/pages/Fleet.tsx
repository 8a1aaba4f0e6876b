// The nodes: what each allows, what it lost, and how far its wishes have come.
import type { Node } from "../api/rows";
import { useNow, useStatus } from "../frame/live";
import { ago, bytes, plain, plural, whole } from "../lib/format";
import { Command } from "../parts/Command";
import { Empty, Failed } from "../parts/Empty";
import { standing } from "../parts/Facts";

export function Fleet() {
  const status = useStatus();
  const now = useNow();
  if (status.error !== null && status.data === undefined) {
    return (
      <div className="panel">
        <Failed error={status.error} retry={() => void status.refetch()} />
      </div>
    );
  }
  const data = status.data;
  if (data === undefined) return <div className="panel" style={{ height: 180 }} />;
  const received = Object.entries(data.received ?? {}).filter(([, value]) => value > 0);
  return (
    <>
      {data.instances.length === 0 ? (
        <div className="panel">
          <Empty title="No controller reports to this dashboard.">
            <p>
              A controller runs on each node and dials this dashboard; it opens no port. On this machine,
              `sonde up` starts both.
            </p>
            <Command text={`sonde controller --dashboard ${location.origin} --token-file FILE`} />
          </Empty>
        </div>
      ) : (
        data.instances.map((node) => <OneNode key={node.id} node={node} now={now} />)
      )}
      <section className="panel node">
        <div className="node-head">
          <h2>Dashboard</h2>
          <span className="dim">
            Sonde {data.version}
            {data.storage_bytes === undefined ? "" : ` · ${plain(bytes(data.storage_bytes))} on disk`}
          </span>
        </div>
        <p className="dim">
          {received.length === 0
            ? "No telemetry was received since it started."
            : `Received since it started: ${received.map(([what, value]) => `${whole(value)} ${kinds(what)}`).join(" · ")}`}
        </p>
      </section>
    </>
  );
}

function OneNode({ node, now }: { node: Node; now: number }) {
  const facts = node.doctor ?? [];
  const lost = Object.entries(node.lost ?? {}).filter(([, value]) => value > 0);
  const behind = node.desired_generation !== undefined && node.desired_generation > node.generation;
  const lacking = facts.filter((fact) => fact.standing !== "good").length;
  const polled =
    node.connected === true
      ? "connected"
      : `last asked ${ago(node.last_poll, now)}${ago(node.last_poll, now) === "now" ? "" : " ago"}`;
  return (
    <section className="panel node" data-testid="node">
      <div className="node-head">
        <h2>{node.host_name}</h2>
        {node.recorded === true ? <span className="tag">recorded</span> : null}
        <span className="dim" title={node.last_poll}>
          {polled} · Sonde {node.version} · kernel {node.kernel}{" "}
          {node.generation === 0 ? "" : ` · wish ${whole(node.generation)}`}
          {behind ? ` · wish ${whole(node.desired_generation ?? 0)} not yet taken over` : ""}
        </span>
      </div>
      <p className={lost.length > 0 ? "warn" : "dim"}>
        {lost.length === 0
          ? "Nothing was lost since it started."
          : `Lost since it started: ${lost.map(([reason, value]) => `${whole(value)} ${reason.replaceAll("_", " ")}`).join(" · ")}`}
      </p>
      {facts.length === 0 ? (
        <p className="faint">
          {node.recorded === true
            ? "A recording needs nothing of this machine."
            : "It has not said yet what the machine allows."}
        </p>
      ) : (
        <table>
          <thead>
            <tr>
              <th>What the machine allows</th>
              <th>{lacking === 0 ? "" : plural(lacking, "gap")}</th>
              <th>Found, and what to do</th>
            </tr>
          </thead>
          <tbody>
            {facts.map((fact) => {
              const { tone, word } = standing(fact);
              return (
                <tr key={fact.name} data-testid="fact">
                  <td className="name mono">{fact.name}</td>
                  <td className="standing">
                    <span className={`dot ${tone}`} /> {word}
                  </td>
                  <td className="found">
                    {fact.found}
                    {fact.remedy === undefined || fact.remedy === "" ? null : (
                      <div className="dim">{fact.remedy}</div>
                    )}
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      )}
    </section>
  );
}

const KINDS: Record<string, string> = {
  call: "calls",
  duplicate: "calls twice",
  not_a_call: "spans that are no calls",
  rejected: "refused",
  metric: "metrics",
  log: "logs",
};

function kinds(what: string): string {
  return (Object.hasOwn(KINDS, what) ? KINDS[what] : undefined) ?? what.replaceAll("_", " ");
}

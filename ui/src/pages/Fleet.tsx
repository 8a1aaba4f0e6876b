// The nodes: what each allows, what it lost, how far its wishes have come, and who may join.
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useRef, useState } from "react";
import type { Node, Status } from "../api/rows";
import { useKeys } from "../frame/keys";
import { useAhead, useNow, useStatus } from "../frame/live";
import { configState, isBehind, losses, short, standingOf, wishes } from "../lib/fleet";
import { ago, bytes, plain, plural, whole } from "../lib/format";
import { Empty, Failed } from "../parts/Empty";
import { useMost } from "../parts/Some";
import { AddController } from "./AddController";
import { NodeDetails } from "./NodeDetails";
import { Tokens } from "./Tokens";

export function Fleet() {
  const status = useStatus();
  const [adding, setAdding] = useState(false);
  if (status.error !== null && status.data === undefined) {
    return (
      <div className="panel">
        <Failed error={status.error} retry={() => void status.refetch()} />
      </div>
    );
  }
  const data = status.data;
  if (data === undefined) return <div className="panel" style={{ height: 180 }} />;
  return (
    <>
      <div className="line">
        <FleetSummary nodes={data.instances} />
        <span className="bar-gap" />
        <button type="button" className="control primary" onClick={() => setAdding(true)}>
          Add a controller
        </button>
      </div>
      <div className="panel">
        {data.instances.length === 0 ? (
          <Empty title="No controller reports to this dashboard.">
            <p>
              A controller runs on each node and dials this dashboard; it opens no port. On this machine,
              <span className="mono">sonde up</span> starts both. On others it needs a join token, which is
              made with its command.
            </p>
            <div>
              <button type="button" className="control primary" onClick={() => setAdding(true)}>
                Add a controller
              </button>
            </div>
          </Empty>
        ) : (
          <Nodes nodes={data.instances} />
        )}
      </div>
      <Tokens />
      <Dashboard status={data} />
      {adding ? <AddController kind="join" onClose={() => setAdding(false)} /> : null}
    </>
  );
}

function FleetSummary({ nodes }: { nodes: Node[] }) {
  const now = useNow() + useAhead();
  const states = nodes.map((node) => standingOf(node, now).tone);
  const bad = states.filter((tone) => tone === "bad").length;
  const real = nodes.filter((node) => node.recorded !== true);
  const services = real.reduce((sum, node) => sum + (node.workloads ?? 0), 0);
  if (nodes.length === 0) return <span className="dim" />;
  return (
    <span className="dim">
      {plural(nodes.length, "node")} · {bad === 0 ? "none in trouble" : `${bad} in trouble`}
      {services === 0 ? "" : ` · ${plural(services, "service")} reported`}
    </span>
  );
}

function Nodes({ nodes }: { nodes: Node[] }) {
  const search = useSearch({ strict: false }) as { node?: string };
  const navigate = useNavigate();
  const now = useNow() + useAhead();
  // One node needs no click to be seen whole; "-" is the choice to see none.
  const open = search.node ?? (nodes.length === 1 ? nodes[0]?.id : undefined);
  const [filter, setFilter] = useState("");
  const wanted = filter.trim().toLowerCase();
  const found = nodes.filter((node) => wanted === "" || words(node, now).includes(wanted));
  const { most, more } = useMost(found.length);
  const walk = (by: number) => {
    const index = found.findIndex((node) => node.id === open);
    const next = found[index < 0 ? 0 : Math.max(0, Math.min(found.length - 1, index + by))];
    if (next !== undefined) put(next.id);
  };
  const box = useRef<HTMLInputElement>(null);
  useKeys({ j: () => walk(1), k: () => walk(-1), "/": () => box.current?.focus() });
  const put = (node: string) =>
    void navigate({ to: ".", replace: true, search: (old: object) => ({ ...old, node }) as never });
  return (
    <>
      {nodes.length < MANY ? null : (
        <label className="filter flat">
          <span className="slash">/</span>
          <span className="sr">Filter nodes</span>
          <input
            ref={box}
            value={filter}
            placeholder="filter by name, state, environment, cluster, platform, version"
            onChange={(event) => setFilter(event.target.value)}
          />
        </label>
      )}
      <div className="scroll">
        <table className="node-table">
          <thead>
            <tr>
              <th>Node</th>
              <th>State</th>
              <th>Belongs to</th>
              <th>Runs</th>
              <th>Version</th>
              <th>Kernel</th>
              <th className="num">Services</th>
              <th className="num">Wish</th>
              <th>Configuration</th>
              <th className="num">Lost</th>
              <th className="num">Polled</th>
            </tr>
          </thead>
          {found.slice(0, most).map((node) => (
            <tbody key={node.id} data-testid="node">
              <Row
                node={node}
                now={now}
                isOpen={node.id === open}
                onOpen={() => put(node.id === open ? "-" : node.id)}
              />
              {node.id === open ? (
                <tr className="node-open">
                  <td colSpan={11}>
                    <NodeDetails node={node} now={now} />
                  </td>
                </tr>
              ) : null}
            </tbody>
          ))}
        </table>
      </div>
      {found.length === 0 ? <p className="panel-note faint">No node matches the filter.</p> : more}
    </>
  );
}

/** From so many nodes on they are searched rather than read. */
const MANY = 8;

/** What a node is found by. */
function words(node: Node, now: number): string {
  return [
    node.host_name,
    node.id,
    standingOf(node, now).text,
    node.environment,
    node.cluster_name,
    node.cluster,
    node.version,
    node.kernel,
    ...(node.platforms ?? []),
  ]
    .join("\n")
    .toLowerCase();
}

function Row({
  node,
  now,
  isOpen,
  onOpen,
}: {
  node: Node;
  now: number;
  isOpen: boolean;
  onOpen: () => void;
}) {
  const { tone, text } = standingOf(node, now);
  const lost = losses(node).reduce((sum, one) => sum + one.count, 0);
  const configured = configState(node);
  const belongs = [node.environment, node.cluster_name ?? node.cluster].filter((one) => one !== undefined);
  return (
    <tr className="row" aria-current={isOpen} onClick={onOpen}>
      <td className="strong keep">
        <button type="button" className="strong clip" aria-expanded={isOpen} title={node.id}>
          {node.host_name}
        </button>{" "}
        {node.recorded === true ? <span className="tag">recorded</span> : null}
      </td>
      <td className="keep">
        <span className="state">
          <span className={`dot ${tone}`} />
          <span className={tone === "bad" ? "clip bad" : "clip dim"}>{text}</span>
        </span>
      </td>
      <td className="clip dim">
        {belongs.length === 0 ? <span className="faint">–</span> : belongs.join(" · ")}
      </td>
      <td className="clip dim">{(node.platforms ?? []).join(", ")}</td>
      <td className="dim">{node.version}</td>
      <td className="clip dim" title={node.kernel}>
        {node.kernel}
      </td>
      <td className="num">{node.workloads ?? <span className="faint">–</span>}</td>
      <td
        className={isBehind(node) ? "num warn" : "num"}
        title={isBehind(node) ? "Taken over, of those there are" : undefined}
      >
        {wishes(node) === "" ? <span className="faint">–</span> : wishes(node)}
      </td>
      <td className="clip dim" title={configured.text}>
        {node.configuration?.hash === undefined || configured.text === "its own" ? (
          <span className="faint">its own</span>
        ) : (
          <>
            <span className={`dot ${configured.tone}`} />{" "}
            <span className="mono">{short(node.configuration.hash)}</span>
          </>
        )}
      </td>
      <td className={lost > 0 ? "num warn" : "num faint"}>{lost === 0 ? "0" : whole(lost)}</td>
      <td className="num faint" title={node.last_poll}>
        {node.connected === true ? "connected" : ago(node.last_poll, now)}
      </td>
    </tr>
  );
}

function Dashboard({ status }: { status: Status }) {
  const received = Object.entries(status.received ?? {}).filter(([, value]) => value > 0);
  return (
    <section className="panel node">
      <div className="node-head">
        <h2>Dashboard</h2>
        <span className="dim">
          Sonde {status.version}
          {status.storage_bytes === undefined ? "" : ` · ${plain(bytes(status.storage_bytes))} on disk`}
        </span>
      </div>
      <p className="dim">
        {received.length === 0
          ? "No telemetry was received since it started."
          : `Received since it started: ${received.map(([what, value]) => `${whole(value)} ${kinds(what)}`).join(" · ")}`}
      </p>
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

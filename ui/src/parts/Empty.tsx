// Nothing to show: what was looked for, and the next step.
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import type { Service, Status } from "../api/rows";
import { keepSpan } from "../frame/keys";
import { plural } from "../lib/format";
import { Command } from "./Command";
import { MissingFacts, missing } from "./Facts";

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty" data-testid="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** Why there are no services, from what the nodes report. */
export function NoServices({ status }: { status: Status | undefined }) {
  const nodes = status?.instances.filter((node) => node.recorded !== true) ?? [];
  if (nodes.length === 0) {
    return (
      <Empty title="No controller reports to this dashboard.">
        <p>
          A controller on each node finds the programs that call models. On this machine,{" "}
          <span className="mono">sonde up</span> starts the dashboard and a controller in one.
        </p>
        <Command text="sonde up" />
        <p>On other nodes, start one that dials this dashboard. It joins with a token, which Fleet makes:</p>
        <div>
          <Link className="control primary" to="/fleet" search={keepSpan}>
            Add a controller
          </Link>
        </div>
      </Empty>
    );
  }
  const lacking = missing(nodes).length > 0;
  return (
    <Empty title="No program was seen to talk to a model.">
      <p>
        Looked at the TLS connections of all programs on {plural(nodes.length, "node")} for the names of known
        model APIs, such as api.openai.com and api.anthropic.com. Programs appear here when they make their
        first call; nothing is read before you say so.
      </p>
      {lacking ? (
        <>
          <p>
            The kernel does not let Sonde watch all connections here, so it only finds those that are open
            while it looks:
          </p>
          <MissingFacts nodes={nodes} />
        </>
      ) : null}
      <p>To see one now, make any call, for instance:</p>
      <Command text="curl https://api.openai.com/v1/models" />
    </Empty>
  );
}

/** Why there are no calls, from what is known of services and nodes. */
export function NoCalls({
  services,
  status,
  span,
}: {
  services: Service[];
  status: Status | undefined;
  span: string;
}) {
  if (services.length === 0) return <NoServices status={status} />;
  const nodes = status?.instances ?? [];
  const on = services.filter((row) => row["sonde.capture.desired"] !== "off");
  const lacking = missing(nodes).length > 0;
  if (on.length === 0) {
    const one = services.length === 1;
    return (
      <Empty title="Nothing is captured yet.">
        <p>
          {plural(services.length, "service")} {one ? "was" : "were"} found, and {one ? "it is" : "all are"}{" "}
          at Off. Turn one to Network: its next call appears here. Nothing is restarted, and no message text
          is kept.
        </p>
        {lacking ? <MissingFacts nodes={nodes} /> : null}
        <ToServices />
      </Empty>
    );
  }
  return (
    <Empty title={`No call ended in this span of time (${span.toLowerCase()}).`}>
      <p>
        Captured: {on.length} of {plural(services.length, "service")}. Their next call appears here by itself.
      </p>
      {lacking ? (
        <>
          <p>Network capture does not work here:</p>
          <MissingFacts nodes={nodes} />
        </>
      ) : null}
      <ToServices />
    </Empty>
  );
}

function ToServices() {
  return (
    <div>
      <Link className="control primary" to="/services" search={keepSpan}>
        Open Services
      </Link>
    </div>
  );
}

/** A request failed and nothing older is there to show. */
export function Failed({ error, retry }: { error: Error; retry: () => void }) {
  return (
    <Empty title="This could not be loaded.">
      <p>{error.message}</p>
      <div>
        <button type="button" className="control" onClick={retry}>
          Try again
        </button>
      </div>
    </Empty>
  );
}

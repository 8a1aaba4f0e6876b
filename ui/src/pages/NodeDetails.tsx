// One node in full: what the machine allows, what it should be configured to, what it lost.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api } from "../api/client";
import type { Fact, Node } from "../api/rows";
import { configState, lockOf, losses, short, wishes } from "../lib/fleet";
import { ago, plural, whole } from "../lib/format";
import { LAYER_WORDS, SETTINGS, shown } from "../lib/settings";
import { Confirm } from "../parts/Dialog";
import { standing } from "../parts/Facts";
import { Details } from "../parts/Peek";

export function NodeDetails({ node, now }: { node: Node; now: number }) {
  return (
    <div className="node-details">
      <div className="node-left">
        <Facts node={node} />
      </div>
      <div className="node-right">
        <h3>This controller</h3>
        <Details
          of={[
            { name: "id", value: node.id, mono: true },
            {
              name: "last poll",
              value: `${ago(node.last_poll, now)}${ago(node.last_poll, now) === "now" ? "" : " ago"}`,
              how: node.connected === true ? "a poll of it waits now" : "",
            },
            {
              name: "started",
              value: node.started === undefined ? undefined : ago(node.started, now),
              how: "ago",
            },
            { name: "wishes", value: wishes(node), how: "taken over" },
            { name: "can do", value: (node.capabilities ?? []).join(", ") },
            {
              name: "its credential",
              value: credential(node, now),
            },
          ]}
        />
        <Losses node={node} />
        <Configured node={node} />
        {/* What polls through the socket of this machine has nothing to revoke. */}
        {node.enrolled === undefined && node.revoked !== true ? null : <Access node={node} />}
      </div>
    </div>
  );
}

function credential(node: Node, now: number): string {
  if (node.revoked === true) return "revoked";
  return node.enrolled === undefined
    ? "none of its own: it polls with a join token, or through the socket of this machine"
    : `of its own, since ${ago(node.enrolled, now)}`;
}

function Facts({ node }: { node: Node }) {
  // What needs a look comes first; the rest stays in the node's own order.
  const rank = (fact: Fact) => ["missing", "limited"].indexOf(fact.standing) + 1 || 3;
  const facts = [...(node.doctor ?? [])].sort((a, b) => rank(a) - rank(b));
  const lacking = facts.filter((fact) => fact.standing !== "good").length;
  if (facts.length === 0) {
    return (
      <p className="faint">
        {node.recorded === true
          ? "A recording needs nothing of this machine."
          : "It has not said yet what the machine allows."}
      </p>
    );
  }
  return (
    <table className="facts-table">
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
  );
}

function Losses({ node }: { node: Node }) {
  const lost = losses(node);
  return (
    <>
      <h3>Lost since it started</h3>
      {lost.length === 0 ? (
        <p className="dim">Nothing.</p>
      ) : (
        <Details of={lost.map((one) => ({ name: one.reason, value: whole(one.count) }))} />
      )}
    </>
  );
}

function Configured({ node }: { node: Node }) {
  const { configuration, applied } = node;
  const set = SETTINGS.filter((one) => configuration?.settings[one.name] !== undefined);
  const { tone, text } = configState(node);
  if (configuration === undefined || (set.length === 0 && applied === undefined)) {
    return (
      <>
        <h3>Configuration</h3>
        <p className="dim">Its own: nothing is set for it here.</p>
      </>
    );
  }
  return (
    <>
      <h3>Configuration</h3>
      <p className={tone === "bad" ? "bad" : "dim"}>
        <span className={`dot ${tone}`} /> {text}
      </p>
      <Details
        of={[
          { name: "wanted", value: short(configuration.hash), mono: true },
          {
            name: "tried last",
            value: applied === undefined ? "nothing yet" : short(applied.hash),
            mono: true,
          },
          ...set.map((one) => {
            const origin = configuration.origin?.[one.name];
            const locked = lockOf(one.name, applied?.error);
            return {
              name: one.title.toLowerCase(),
              value: shown(one, configuration.settings[one.name]),
              how:
                locked !== undefined
                  ? "not in effect"
                  : origin === undefined
                    ? ""
                    : `of ${LAYER_WORDS[origin]}`,
            };
          }),
        ]}
      />
    </>
  );
}

function Access({ node }: { node: Node }) {
  const [asking, setAsking] = useState(false);
  const client = useQueryClient();
  const settled = { onSuccess: () => client.invalidateQueries({ queryKey: ["status"] }) };
  const revoke = useMutation({ mutationFn: () => api.revokeNode(node.id), ...settled });
  const readmit = useMutation({ mutationFn: () => api.readmitNode(node.id), ...settled });
  return (
    <div className="answers left">
      {node.revoked === true ? (
        <button
          type="button"
          className="control"
          disabled={readmit.isPending}
          onClick={() => readmit.mutate()}
        >
          Let it join again
        </button>
      ) : (
        <button type="button" className="control danger" onClick={() => setAsking(true)}>
          Revoke …
        </button>
      )}
      {readmit.error === null ? null : <span className="bad">{readmit.error.message}</span>}
      {asking ? (
        <Confirm
          label={`Revoke ${node.host_name}`}
          action="Revoke"
          onClose={() => setAsking(false)}
          onYes={() => revoke.mutateAsync()}
          busy={revoke.isPending}
          error={revoke.error}
        >
          <p>
            Nothing of this controller is taken any more, and nothing is handed to it. What it captures keeps
            running on the node until it is stopped there. It can join again only after you let it.
          </p>
        </Confirm>
      ) : null}
    </div>
  );
}

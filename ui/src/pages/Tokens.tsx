// Tokens: who may join, send, or ask. The secrets are not kept, so none can be shown again.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api } from "../api/client";
import type { Token, TokenKind } from "../api/rows";
import { useAhead, useNow } from "../frame/live";
import { tokenState } from "../lib/fleet";
import { ago } from "../lib/format";
import { Confirm } from "../parts/Dialog";
import { AddController } from "./AddController";

const KIND: Record<TokenKind, string> = {
  join: "lets controllers join",
  ingest: "sends telemetry",
  api: "asks the API",
};

export function Tokens() {
  const tokens = useQuery({ queryKey: ["tokens"], queryFn: api.tokens, refetchInterval: 10_000 });
  const [making, setMaking] = useState<TokenKind>();
  const [revoking, setRevoking] = useState<Token>();
  const now = useNow() + useAhead();
  const rows = tokens.data?.tokens ?? [];
  return (
    <section className="panel" data-testid="tokens">
      <div className="panel-head">
        <h2>Tokens</h2>
        <span className="dim">A secret is shown once, when it is made.</span>
        <span className="bar-gap" />
        <button type="button" className="control" onClick={() => setMaking("ingest")}>
          New token
        </button>
      </div>
      {tokens.error !== null ? <p className="panel-note bad">{tokens.error.message}</p> : null}
      {tokens.data !== undefined && rows.length === 0 ? (
        <p className="panel-note faint">
          None. On this machine <span className="mono">sonde up</span> needs none; controllers elsewhere join
          with one, programs send OpenTelemetry with one, scripts ask with one.
        </p>
      ) : null}
      {rows.length === 0 ? null : (
        <div className="scroll">
          <table className="token-table">
            <thead>
              <tr>
                <th>Name</th>
                <th>Kind</th>
                <th>Environment</th>
                <th>Good for</th>
                <th className="num">Joined</th>
                <th className="num">Last used</th>
                <th className="num">Made</th>
                <th>
                  <span className="sr">Revoke</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {rows.map((one) => (
                <Row key={one.id} of={one} now={now} onRevoke={() => setRevoking(one)} />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {making === undefined ? null : <AddController kind={making} onClose={() => setMaking(undefined)} />}
      {revoking === undefined ? null : <Revoke of={revoking} onClose={() => setRevoking(undefined)} />}
    </section>
  );
}

interface RowProps {
  of: Token;
  now: number;
  onRevoke: () => void;
}

function Row({ of, now, onRevoke }: RowProps) {
  const { tone, text } = tokenState(of, now);
  const none = <span className="faint">–</span>;
  return (
    <tr data-testid="token" className={tone === "calm" ? "spent" : ""}>
      <td className="clip keep" title={`token ${of.id}`}>
        {of.name === "" ? <span className="faint">token {of.id}</span> : of.name}
      </td>
      <td className="dim" title={of.kind}>
        {Object.hasOwn(KIND, of.kind) ? KIND[of.kind] : of.kind}
      </td>
      <td className="dim clip">{of.environment ?? none}</td>
      <td className="dim keep good-for" title={of.expires}>
        <span className={`dot ${tone}`} /> {text}
      </td>
      <td className="num">{of.kind === "join" ? joined(of) : none}</td>
      <td className="num" title={of.last_used}>
        {of.last_used === undefined ? none : ago(of.last_used, now)}
      </td>
      <td className="num faint" title={of.created}>
        {ago(of.created, now)}
      </td>
      <td className="num keep">
        <button type="button" className="link" onClick={onRevoke}>
          revoke
        </button>
      </td>
    </tr>
  );
}

/** How many nodes joined with it, of those that may. */
const joined = (of: Token) => (of.uses === undefined ? of.used : `${of.used} of ${of.uses}`);

/** Asks before a token is made useless. */
function Revoke({ of, onClose }: { of: Token; onClose: () => void }) {
  const client = useQueryClient();
  const revoke = useMutation({
    mutationFn: () => api.revokeToken(of.id),
    onSuccess: () => client.invalidateQueries({ queryKey: ["tokens"] }),
  });
  return (
    <Confirm
      label={`Revoke ${of.name === "" ? `token ${of.id}` : `“${of.name}”`}`}
      action="Revoke"
      onClose={onClose}
      onYes={() => revoke.mutateAsync()}
      busy={revoke.isPending}
      error={revoke.error}
    >
      <p>
        {of.kind === "join"
          ? "No further controller can join with it. Those that joined keep the credential that they got; revoke them above."
          : "Whatever still uses it is refused from now on."}
      </p>
    </Confirm>
  );
}

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
  const client = useQueryClient();
  const now = useNow() + useAhead();
  const revoke = useMutation({
    mutationFn: (id: string) => api.revokeToken(id),
    onSuccess: () => client.invalidateQueries({ queryKey: ["tokens"] }),
  });
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
              {rows.map((one) => {
                const { tone, text } = tokenState(one, now);
                return (
                  <tr key={one.id} data-testid="token" className={tone === "calm" ? "spent" : ""}>
                    <td className="clip keep" title={`token ${one.id}`}>
                      {one.name === "" ? <span className="faint">token {one.id}</span> : one.name}
                    </td>
                    <td className="dim" title={one.kind}>
                      {Object.hasOwn(KIND, one.kind) ? KIND[one.kind] : one.kind}
                    </td>
                    <td className="dim clip">{one.environment ?? <span className="faint">–</span>}</td>
                    <td className="dim keep good-for" title={one.expires}>
                      <span className={`dot ${tone}`} /> {text}
                    </td>
                    <td className="num">
                      {one.kind === "join" ? (
                        one.uses === undefined ? (
                          one.used
                        ) : (
                          `${one.used} of ${one.uses}`
                        )
                      ) : (
                        <span className="faint">–</span>
                      )}
                    </td>
                    <td className="num" title={one.last_used}>
                      {one.last_used === undefined ? (
                        <span className="faint">–</span>
                      ) : (
                        ago(one.last_used, now)
                      )}
                    </td>
                    <td className="num faint" title={one.created}>
                      {ago(one.created, now)}
                    </td>
                    <td className="num keep">
                      <button type="button" className="link" onClick={() => setRevoking(one)}>
                        revoke
                      </button>
                    </td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
      {making === undefined ? null : <AddController kind={making} onClose={() => setMaking(undefined)} />}
      {revoking === undefined ? null : (
        <Confirm
          label={`Revoke ${revoking.name === "" ? `token ${revoking.id}` : `“${revoking.name}”`}`}
          action="Revoke"
          onClose={() => {
            revoke.reset();
            setRevoking(undefined);
          }}
          onYes={() => revoke.mutateAsync(revoking.id)}
          busy={revoke.isPending}
          error={revoke.error}
        >
          <p>
            {revoking.kind === "join"
              ? "No further controller can join with it. Those that joined keep the credential that they got; revoke them above."
              : "Whatever still uses it is refused from now on."}
          </p>
        </Confirm>
      )}
    </section>
  );
}

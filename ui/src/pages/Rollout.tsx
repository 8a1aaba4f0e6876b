// How far the SDK is in each process of a service, why it stops there, and what was changed for it.
import type { Agent, AgentIn } from "../api/rows";
import { ROLLOUT, rollout, STATES } from "../lib/service";

export function Rollout({ of }: { of: Agent }) {
  const state = Object.hasOwn(STATES, of.state) ? STATES[of.state] : undefined;
  return (
    <div data-testid="rollout">
      <p>
        <span className={`dot ${state?.tone ?? "calm"}`} /> {of.reason}
      </p>
      <ul className="rollout">
        {(of.processes ?? []).map((one) => (
          <Way key={one.pid} of={one} />
        ))}
      </ul>
      {of.change === undefined || of.change === "" ? null : (
        <details>
          <summary>What was changed</summary>
          <pre className="command preview">{of.change}</pre>
        </details>
      )}
      {of.before === undefined ? null : (
        <details data-testid="before">
          <summary>What was there before</summary>
          <pre className="command preview">{of.before.shown}</pre>
        </details>
      )}
    </div>
  );
}

/** The three steps of one process. */
function Way({ of }: { of: AgentIn }) {
  const { reached, tone, why } = rollout(of);
  return (
    <li data-testid="way" data-progress={of.progress}>
      <span className="mono faint">{of.pid}</span>
      <ol>
        {ROLLOUT.map((name, at) => (
          <li key={name} className={at < reached ? "" : "faint"} data-reached={at < reached}>
            <span className={`dot ${at < reached ? "good" : at === reached ? tone : "calm"}`} /> {name}
          </li>
        ))}
      </ol>
      {why === "" ? null : <p className={reached === ROLLOUT.length ? "faint" : "dim"}>{why}</p>}
    </li>
  );
}

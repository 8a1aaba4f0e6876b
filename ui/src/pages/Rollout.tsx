// How far the SDK is in each process of a service, and what was changed for it.
import type { Agent } from "../api/rows";
import { ROLLOUT, STATES } from "../lib/service";

export function Rollout({ of }: { of: Agent }) {
  const state = Object.hasOwn(STATES, of.state) ? STATES[of.state] : undefined;
  const processes = of.processes ?? [];
  return (
    <div data-testid="rollout">
      <p>
        <span className={`dot ${state?.tone ?? "calm"}`} /> {of.reason}
      </p>
      {processes.length === 0 ? null : (
        <ul className="evidence">
          {processes.map((one) => {
            const at = ROLLOUT.findIndex((step) => step.progress === one.progress);
            return (
              <li key={one.pid}>
                <span className="mono">{one.pid}</span>
                <span>
                  {one.progress === "stood_down"
                    ? "stood down"
                    : at < 0
                      ? "not started with it"
                      : ROLLOUT.slice(0, at + 1)
                          .map((step) => step.name)
                          .join(" → ")}{" "}
                  <span className="faint">{one.detail ?? ""}</span>
                </span>
              </li>
            );
          })}
        </ul>
      )}
      {of.change === undefined || of.change === "" ? null : (
        <details>
          <summary>What was changed</summary>
          <pre className="mono">{of.change}</pre>
        </details>
      )}
    </div>
  );
}

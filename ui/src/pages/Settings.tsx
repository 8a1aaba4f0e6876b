// Settings of the fleet: which programs count, and how controllers work.
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Configuration } from "./Configuration";
import { Discovery } from "./Discovery";

const TABS = [
  { tab: undefined, name: "Discovery", what: "which programs count, and which hosts serve models" },
  { tab: "configuration", name: "Configuration", what: "how controllers work, in layers" },
] as const;

export function Settings() {
  const { tab } = useSearch({ strict: false }) as { tab?: string };
  const navigate = useNavigate();
  return (
    <>
      <div className="tabs" role="tablist" aria-label="Settings">
        {TABS.map((one) => (
          <button
            key={one.name}
            type="button"
            role="tab"
            className="tab"
            aria-selected={tab === one.tab}
            onClick={() =>
              void navigate({ to: ".", search: (old: object) => ({ ...old, tab: one.tab }) as never })
            }
          >
            {one.name} <span className="faint wide">{one.what}</span>
          </button>
        ))}
      </div>
      {tab === "configuration" ? <Configuration /> : <Discovery />}
    </>
  );
}

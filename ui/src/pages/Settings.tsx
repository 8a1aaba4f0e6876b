// Settings of the fleet: which programs count, and how controllers work.
import { Link, useSearch } from "@tanstack/react-router";
import { Configuration } from "./Configuration";
import { Discovery } from "./Discovery";

const TABS = [
  { tab: undefined, name: "Discovery", what: "which programs count, and which hosts serve models" },
  { tab: "configuration", name: "Configuration", what: "how controllers work, in layers" },
] as const;

export function Settings() {
  const { tab } = useSearch({ strict: false }) as { tab?: string };
  return (
    <>
      <nav className="tabs" aria-label="Settings">
        {TABS.map((one) => (
          <Link
            key={one.name}
            to="/settings"
            search={(old: Record<string, unknown>) => ({ ...old, tab: one.tab }) as never}
            className="tab"
            aria-current={tab === one.tab ? "page" : undefined}
          >
            {one.name} <span className="faint wide">{one.what}</span>
          </Link>
        ))}
      </nav>
      {tab === "configuration" ? <Configuration /> : <Discovery />}
    </>
  );
}

// The rail, the bar, and the page between them.
import { Link, Outlet, useNavigate, useRouterState, useSearch } from "@tanstack/react-router";
import { type ComponentType, useMemo, useState } from "react";
import { ApiError } from "../api/client";
import type { Status } from "../api/rows";
import { losses } from "../lib/fleet";
import { ago, plural } from "../lib/format";
import { KEYS } from "../lib/keys";
import { DEFAULT_RANGE, isRange, RANGES, rangeName, type Span, spanName } from "../lib/range";
import { Login } from "../parts/Login";
import { Help } from "./Help";
import { CallsIcon, FleetIcon, Mark, OverviewIcon, ServicesIcon, SettingsIcon, ThemeIcon } from "./icons";
import { keepSpan, useKeyboard, useKeys } from "./keys";
import { Live, useLive, useNow, useRefresh, useServices, useStatus } from "./live";
import { Menu } from "./Menu";
import { setTheme, type Theme, useTheme } from "./theme";

const PAGES: {
  to: "/" | "/services" | "/calls" | "/fleet" | "/settings";
  name: string;
  icon: ComponentType;
}[] = [
  { to: "/", name: "Overview", icon: OverviewIcon },
  { to: "/services", name: "Services", icon: ServicesIcon },
  { to: "/calls", name: "Calls", icon: CallsIcon },
  { to: "/fleet", name: "Fleet", icon: FleetIcon },
  { to: "/settings", name: "Settings", icon: SettingsIcon },
];

export function Frame() {
  const status = useStatus();
  const [live, setLive] = useState(true);
  const both = useMemo(() => ({ live, setLive }), [live]);
  if (status.error instanceof ApiError && status.error.status === 401) return <Login />;
  return (
    <Live value={both}>
      <Inside status={status.data} error={status.error} />
    </Live>
  );
}

function Inside({ status, error }: { status: Status | undefined; error: Error | null }) {
  const { live, setLive } = useLive();
  const [help, setHelp] = useState(false);
  const [times, setTimes] = useState(0);
  const path = useRouterState({ select: (state) => state.location.pathname });
  useRefresh(live);
  useKeyboard();
  useKeys({ "?": () => setHelp(true), l: () => setLive(!live), t: () => setTimes((n) => n + 1) });
  const title = PAGES.find((page) => page.to === path)?.name ?? "";
  return (
    <div className="frame">
      <nav className="rail" aria-label="Pages">
        <div className="mark">
          <Mark /> Sonde
        </div>
        <div className="rail-links">
          {PAGES.map((page) => (
            <Link
              key={page.to}
              to={page.to}
              search={keepSpan}
              className={page.to === "/settings" ? "rail-link rail-last" : "rail-link"}
              activeOptions={{ exact: true, includeSearch: false }}
            >
              <page.icon />
              {page.name}
              <span className="rail-key" aria-hidden="true">
                {KEYS.find((one) => "to" in one && one.to === page.to)?.keys}
              </span>
            </Link>
          ))}
        </div>
        <RailFoot status={status} />
      </nav>
      <Bar title={title} times={times} />
      <main className="page">
        {error === null ? null : (
          <div className="banner" role="alert">
            <span className="dot bad" /> {error.message}
          </div>
        )}
        {status?.recorded === true ? <RecordedBanner status={status} /> : null}
        <Outlet />
      </main>
      {help ? <Help onClose={() => setHelp(false)} /> : null}
    </div>
  );
}

function RecordedBanner({ status }: { status: Status }) {
  const all = status.instances.every((node) => node.recorded === true);
  return (
    <div className="banner" data-testid="recorded-banner">
      <span className="tag">recorded</span>
      <span>
        <b>Played from a recording.</b>{" "}
        {all
          ? "What this page shows was captured earlier, not now."
          : "Rows marked “recorded” were captured earlier, not now."}{" "}
        They cannot be switched.
      </span>
      <Link className="end control" to="/fleet" search={keepSpan}>
        What this machine allows
      </Link>
    </div>
  );
}

function RailFoot({ status }: { status: Status | undefined }) {
  const now = useNow();
  if (status === undefined) return <div className="rail-foot" />;
  const nodes = status.instances.filter((node) => node.recorded !== true);
  const last = nodes
    .map((node) => node.last_poll)
    .sort()
    .at(-1);
  const lost = nodes.flatMap(losses).reduce((sum, one) => sum + one.count, 0);
  const seen =
    last === undefined ? "" : ` · polled ${ago(last, now)}${ago(last, now) === "now" ? "" : " ago"}`;
  return (
    <div className="rail-foot">
      <Link to="/fleet" search={keepSpan}>
        {nodes.length === 0 ? "no node reports" : `${plural(nodes.length, "node")}${seen}`}
      </Link>
      <Link to="/fleet" search={keepSpan} className={lost > 0 ? "warn" : ""}>
        {nodes.length === 0
          ? `Sonde ${status.version}`
          : lost > 0
            ? `${plural(lost, "loss", "losses")} counted`
            : "nothing lost"}
      </Link>
    </div>
  );
}

function Bar({ title, times }: { title: string; times: number }) {
  // A control is there only where it has an effect.
  const timed = title === "Overview" || title === "Calls";
  const search = useSearch({ strict: false }) as Span & { service?: string };
  const navigate = useNavigate();
  const services = useServices();
  const { live, setLive } = useLive();
  const theme = useTheme();
  const put = (change: Record<string, unknown>) =>
    void navigate({
      to: ".",
      search: (old: Record<string, unknown>) => ({ ...old, ...change }) as never,
    });
  const names = [...new Set(services.data?.map((row) => row["service.name"]) ?? [])].sort();
  if (search.service !== undefined && !names.includes(search.service)) names.unshift(search.service);
  const fixed = search.from !== undefined;
  const moving = live && !(fixed && timed);
  return (
    <header className="bar">
      <h1>{title}</h1>
      {timed || title === "Services" ? (
        <Menu
          label="Service"
          value={search.service ?? ""}
          choices={[{ value: "", name: "all" }, ...names.map((name) => ({ value: name, name }))]}
          onChoose={(value) => put({ service: value === "" ? undefined : value })}
        >
          <span className="hint">Service</span> <b>{search.service ?? "all"}</b>
        </Menu>
      ) : null}
      <span className="bar-gap" />
      {timed ? (
        <Menu
          label="Time range"
          right
          opened={times}
          value={fixed ? "" : (search.range ?? DEFAULT_RANGE)}
          choices={RANGES.map((value) => ({ value, name: rangeName(value) }))}
          onChoose={(value) =>
            put({
              from: undefined,
              to: undefined,
              range: isRange(value) && value !== DEFAULT_RANGE ? value : undefined,
            })
          }
        >
          <b>{spanName(search)}</b>
        </Menu>
      ) : null}
      <button
        type="button"
        className={moving ? "control on" : "control"}
        aria-pressed={live}
        title={
          fixed && timed
            ? "A fixed span of time does not move. Choose a range that ends now."
            : "New calls appear by themselves (l)"
        }
        disabled={fixed && timed}
        onClick={() => setLive(!live)}
      >
        <span className={moving ? "dot good" : "dot"} />
        {moving ? "Live" : "Paused"}
      </button>
      <Menu
        label="Theme"
        icon
        right
        value={theme.wish}
        choices={[
          { value: "system", name: "As the system" },
          { value: "dark", name: "Dark" },
          { value: "light", name: "Light" },
        ]}
        onChoose={(value) => setTheme(value as Theme)}
      >
        <ThemeIcon />
      </Menu>
    </header>
  );
}

// Starts the page: its routes, its queries, its styles.
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import {
  createRootRoute,
  createRoute,
  createRouter,
  Link,
  lazyRouteComponent,
  RouterProvider,
  redirect,
} from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { ApiError } from "./api/client";
import { Frame } from "./frame/Frame";
import { readCallSearch } from "./lib/call";
import { isGrouping } from "./lib/many";
import { readSpan } from "./lib/range";
import { Empty } from "./parts/Empty";
import "./styles/tokens.css";
import "./styles/frame.css";
import "./styles/parts.css";
import "./styles/chart.css";
import "./styles/pages.css";
import "./styles/control.css";
import "./styles/fleet.css";

const text = (value: unknown) =>
  typeof value === "string" && value !== "" ? value : typeof value === "number" ? String(value) : undefined;

const root = createRootRoute({
  component: Frame,
  notFoundComponent: NotFound,
  // Every page keeps the span of time and the service; nonsense in a URL is dropped here.
  validateSearch: (search: Record<string, unknown>) => ({
    ...readSpan(search),
    service: text(search.service),
  }),
});

const routes = [
  createRoute({
    getParentRoute: () => root,
    path: "/",
    component: lazyRouteComponent(() => import("./pages/Overview"), "Overview"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/overview",
    beforeLoad: ({ search }) => {
      throw redirect({ to: "/", search: search as never, replace: true });
    },
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/services",
    validateSearch: (search: Record<string, unknown>) => ({
      q: text(search.q),
      key: text(search.key),
      group: isGrouping(search.group) ? search.group : undefined,
    }),
    component: lazyRouteComponent(() => import("./pages/Services"), "Services"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/calls",
    validateSearch: readCallSearch,
    component: lazyRouteComponent(() => import("./pages/Calls"), "Calls"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/fleet",
    validateSearch: (search: Record<string, unknown>) => ({ node: text(search.node) }),
    component: lazyRouteComponent(() => import("./pages/Fleet"), "Fleet"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/settings",
    validateSearch: (search: Record<string, unknown>) => ({
      tab: search.tab === "configuration" ? ("configuration" as const) : undefined,
    }),
    component: lazyRouteComponent(() => import("./pages/Settings"), "Settings"),
  }),
];

function NotFound() {
  return (
    <div className="panel">
      <Empty title="There is no such page.">
        <div>
          <Link className="control" to="/">
            Overview
          </Link>
        </div>
      </Empty>
    </div>
  );
}

const client = new QueryClient({
  defaultOptions: {
    queries: {
      // A refusal stays a refusal; a dashboard that restarts comes back.
      retry: (times, error) =>
        times < 2 && !(error instanceof ApiError && error.status >= 400 && error.status < 500),
      refetchOnWindowFocus: false,
    },
  },
});

const router = createRouter({ routeTree: root.addChildren(routes), defaultPreload: "intent" });

const place = document.getElementById("root");
if (place !== null) {
  createRoot(place).render(
    <StrictMode>
      <QueryClientProvider client={client}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </StrictMode>,
  );
}

// One call in full: four facts, its timing, its tokens, and how each thing is known.
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { api } from "../api/client";
import type { Call } from "../api/rows";
import { spanOf } from "../frame/keys";
import { useServices } from "../frame/live";
import { type Filter, finish, firstToken, model, ofConversation, unpriced } from "../lib/call";
import { bytes, clock, day, duration, money, plain, plural, whole } from "../lib/format";
import { TOKEN_COLOURS, tokenParts } from "../lib/series";
import { lines } from "../lib/trace";
import { Num } from "../parts/Num";
import { type Detail, Details, Facts, Peek } from "../parts/Peek";

interface Props {
  id: string;
  /** The row of the list, where it is there. */
  known: Call | undefined;
  onClose: () => void;
  onFilter: (filter: Filter) => void;
}

export function CallPeek({ id, known, onClose, onFilter }: Props) {
  const asked = useQuery({
    queryKey: ["call", id],
    queryFn: () => api.call(id),
    staleTime: Number.POSITIVE_INFINITY,
  });
  const row = asked.data ?? known;
  if (row === undefined) {
    return (
      <Peek label="Call" title={<h2>Call</h2>} sub={asked.error?.message ?? ""} onClose={onClose}>
        {null}
      </Peek>
    );
  }
  const end = finish(row);
  const first = firstToken(row);
  const cost = row["sonde.cost"];
  const date = day(row.time, Date.now());
  const host = row["host.name"];
  return (
    <Peek
      label="Call"
      onClose={onClose}
      title={
        <h2>
          {row["gen_ai.operation.name"] ?? "call"} <span>{model(row) ?? ""}</span>{" "}
          {row["sonde.recorded"] === true ? <span className="tag">recorded</span> : null}
        </h2>
      }
      sub={
        <>
          {row["service.name"] ?? "service not known"}
          {row["process.pid"] === undefined ? "" : ` · pid ${row["process.pid"]}`}
          {host === undefined ? "" : ` on ${host}`} ·{" "}
          <span title={row.time}>
            {date} {clock(row.time)}
          </span>
        </>
      }
    >
      <Facts
        of={[
          {
            name: "Duration",
            value: <Num of={of(row["sonde.duration"])} exact={seconds(row["sonde.duration"])} />,
          },
          { name: "First token", value: <Num of={of(first)} exact={seconds(first)} /> },
          {
            name: "Cost",
            value:
              cost === undefined ? (
                <span className="faint">{unpriced(row) ? "unpriced" : "–"}</span>
              ) : (
                <span title={`$${cost}`}>{money(cost)}</span>
              ),
          },
          { name: "Finish", value: <span className={end.tone === "plain" ? "" : end.tone}>{end.text}</span> },
        ]}
      />
      <Timing row={row} />
      <TokenBar row={row} />
      <TraceTree row={row} />
      <Conversation row={row} onFilter={onFilter} />
      <CallDetails row={row} onFilter={onFilter} />
    </Peek>
  );
}

const of = (value: number | undefined) => (value === undefined ? undefined : duration(value));
const seconds = (value: number | undefined) => (value === undefined ? undefined : `${value} s`);

/** Request, waiting, stream. Only moments that were seen are drawn. */
function Timing({ row }: { row: Call }) {
  const total = row["sonde.duration"];
  if (total === undefined || total <= 0) return null;
  const chunk = row["gen_ai.response.time_to_first_chunk"];
  const token = row["sonde.time_to_first_token"];
  const at = (value: number) => `${Math.max(0, Math.min(100, (value / total) * 100))}%`;
  const chunks = row["sonde.chunk_count"];
  const sent = row["http.request.body.size"];
  const first = token ?? chunk;
  const rest =
    chunk !== undefined && chunks !== undefined && chunks > 1 ? (total - chunk) / (chunks - 1) : undefined;
  return (
    <>
      <h3 className="section">
        <b>Timing</b>{" "}
        {chunks === undefined
          ? row["gen_ai.request.stream"] === true
            ? "stream"
            : "answered at once, not a stream"
          : plural(chunks, "chunk")}
        {rest === undefined ? "" : `, ${plain(duration(rest))} apart on average`}
      </h3>
      <div className="strip">
        <div className="strip-labels">
          <span>{sent === undefined ? "request" : `sent ${plain(bytes(sent))}`}</span>
          {first !== undefined && first / total > 0.22 && first / total < 0.7 ? (
            <span className="at" style={{ left: at(first) }}>
              {token === undefined ? "first chunk" : "first token"}
            </span>
          ) : null}
          <span>
            {row["http.response.body.size"] === undefined
              ? "end"
              : `received ${plain(bytes(row["http.response.body.size"]))}`}
          </span>
        </div>
        <div className="strip-bar">
          {chunk === undefined ? null : <i className="stream" style={{ left: at(chunk), right: 0 }} />}
          {chunk === undefined ? null : (
            <i
              className="tick"
              style={{ left: at(chunk) }}
              title={`first chunk after ${plain(duration(chunk))}`}
            />
          )}
          {token === undefined || token === chunk ? null : (
            <i
              className="tick"
              style={{ left: at(token) }}
              title={`first token after ${plain(duration(token))}`}
            />
          )}
        </div>
        <div className="strip-labels">
          <span>0</span>
          {first === undefined || first / total < 0.1 || first / total > 0.8 ? null : (
            <span className="at" style={{ left: at(first) }}>
              {plain(duration(first))}
            </span>
          )}
          <span>{plain(duration(total))}</span>
        </div>
      </div>
    </>
  );
}

/** The agents, tools and calls of the trace, where there is more than this call. */
function TraceTree({ row }: { row: Call }) {
  const asked = useQuery({ queryKey: ["trace", row.trace_id], queryFn: () => api.trace(row.trace_id) });
  const found = asked.data === undefined ? [] : lines(asked.data);
  if (found.length < 2) return null;
  const end = Math.max(...found.map((line) => line.start + (line.duration ?? 0)), 0.000001);
  const share = (value: number) => `${Math.max(0, Math.min(100, (value / end) * 100))}%`;
  const agents = found.filter((line) => line.call === undefined).length;
  return (
    <>
      <h3 className="section">
        <b>Trace</b> {plural(found.length - agents, "call")}
        {agents === 0 ? "" : ` in ${plural(agents, "step")} of agents and tools`}
      </h3>
      <ul className="trace" aria-label="Trace">
        {found.slice(0, MAX_LINES).map((line) => (
          <li
            key={line.id}
            className={line.id === row.span_id ? "current" : ""}
            style={{ paddingLeft: `${Math.min(line.depth, 12) * 12}px` }}
          >
            <span className="faint">{line.kind}</span>{" "}
            {line.call === undefined || line.id === row.span_id ? (
              <span className={line.failed ? "bad" : ""}>{line.name}</span>
            ) : (
              <Link
                to="/calls"
                search={(old: Record<string, unknown>) =>
                  ({ ...old, call: line.call?.["sonde.call.id"] }) as never
                }
              >
                {line.name}
              </Link>
            )}{" "}
            <span className="val">{line.duration === undefined ? "" : plain(duration(line.duration))}</span>
            <span className="trace-bar">
              <i style={{ left: share(line.start), width: share(line.duration ?? 0) }} />
            </span>
          </li>
        ))}
      </ul>
      {found.length > MAX_LINES ? (
        <p className="section">{plural(found.length - MAX_LINES, "line")} more.</p>
      ) : null}
    </>
  );
}

// Lines of a trace that are shown; an agent that ran for hours has thousands.
const MAX_LINES = 200;

// Turns of a conversation that are shown, the newest; all of them are a click away.
const MAX_TURNS = 20;

/** The calls of the conversation, where there is more than this one. */
function Conversation({ row, onFilter }: { row: Call; onFilter: (filter: Filter) => void }) {
  const id = row["gen_ai.conversation.id"];
  const filter = ofConversation(id ?? "");
  const asked = useQuery({
    queryKey: ["conversation", id],
    queryFn: () => api.calls({ filter, limit: MAX_TURNS }),
    enabled: id !== undefined,
  });
  const turns = [...(asked.data?.calls ?? [])].reverse();
  if (turns.length < 2) return null;
  const isAll = asked.data?.next === undefined;
  const tokens = turns.reduce(
    (sum, turn) => sum + (turn["gen_ai.usage.input_tokens"] ?? 0) + (turn["gen_ai.usage.output_tokens"] ?? 0),
    0,
  );
  return (
    <>
      <h3 className="section">
        <b>Conversation</b> {isAll ? plural(turns.length, "call") : `the newest ${turns.length} calls`} ·{" "}
        {whole(tokens)} tokens ·{" "}
        <button type="button" className="pick" onClick={() => onFilter({ filter })}>
          list them
        </button>
      </h3>
      <ul className="trace" aria-label="Conversation">
        {turns.map((turn) => (
          <li
            key={turn["sonde.call.id"]}
            className={turn["sonde.call.id"] === row["sonde.call.id"] ? "current" : ""}
          >
            <span className="faint">{clock(turn.time)}</span>{" "}
            {turn["sonde.call.id"] === row["sonde.call.id"] ? (
              <span>{model(turn) ?? "model not known"}</span>
            ) : (
              <Link
                to="/calls"
                search={(old: Record<string, unknown>) => ({ ...old, call: turn["sonde.call.id"] }) as never}
              >
                {model(turn) ?? "model not known"}
              </Link>
            )}{" "}
            <span className="val">
              {turn["gen_ai.usage.input_tokens"] === undefined
                ? ""
                : `${whole(turn["gen_ai.usage.input_tokens"])} in`}
              {turn["gen_ai.usage.output_tokens"] === undefined
                ? ""
                : ` · ${whole(turn["gen_ai.usage.output_tokens"])} out`}
            </span>
          </li>
        ))}
      </ul>
    </>
  );
}

function TokenBar({ row }: { row: Call }) {
  const input = row["gen_ai.usage.input_tokens"];
  const output = row["gen_ai.usage.output_tokens"];
  if (input === undefined && output === undefined) {
    return (
      <h3 className="section">
        <b>Tokens</b>{" "}
        {row["error.type"] === undefined ? "the provider sent no usage" : "none, the call failed"}
      </h3>
    );
  }
  const parts = Object.entries(
    tokenParts({
      input_tokens: input,
      output_tokens: output,
      cache_read_tokens: row["gen_ai.usage.cache_read.input_tokens"],
      cache_write_tokens: row["gen_ai.usage.cache_write.input_tokens"],
      reasoning_tokens: row["gen_ai.usage.reasoning.output_tokens"],
    }),
  ).filter(([, value]) => value > 0);
  return (
    <>
      <h3 className="section">
        <b>Tokens</b> {input === undefined ? "input not seen" : `${whole(input)} in`} ·{" "}
        {output === undefined ? "output not seen" : `${whole(output)} out`}
      </h3>
      <div className="tokens">
        {parts.map(([name, value]) => (
          <i
            key={name}
            title={`${name} ${whole(value)}`}
            style={{ flex: `${value} 0 2px`, background: `var(--s${TOKEN_COLOURS[name]})` }}
          />
        ))}
      </div>
      <ul className="legend">
        {parts.map(([name, value]) => (
          <li key={name}>
            <span className="swatch" style={{ background: `var(--s${TOKEN_COLOURS[name]})` }} /> {name}{" "}
            <span className="val">{whole(value)}</span>
          </li>
        ))}
      </ul>
    </>
  );
}

// Attributes that stand elsewhere in the panel or say nothing to people.
const SHOWN = new Set([
  "time",
  "span_id",
  "service.name",
  "host.name",
  "process.pid",
  "sonde.recorded",
  "sonde.platform",
]);

const text = (value: unknown) =>
  typeof value === "number" ? String(value) : typeof value === "string" ? value : undefined;

/** What is known of a call beside its numbers, one below the other. `tls` is the library of its service. */
function detailsOf(
  row: Call,
  tls: string | undefined,
  onFilter: (filter: Filter) => void,
): (Detail | undefined)[] {
  const name = row["gen_ai.provider.name"];
  const server = row["server.address"];
  const port = row["server.port"];
  const recognised: Record<string, string> = {
    host: `by the name ${server ?? "of the host"}`,
    shape: "by the shape of the request",
  };
  const by = row["sonde.recognised_by"] ?? "";
  const resend = row["http.request.resend_count"];
  const retry = row["sonde.retry_after"];
  return [
    {
      name: "provider",
      value:
        name === undefined ? "not known" : <Pick value={name} onPick={() => onFilter({ provider: name })} />,
      how: Object.hasOwn(recognised, by) ? recognised[by] : by,
    },
    {
      name: "server",
      value: server === undefined ? undefined : port === undefined ? server : `${server}:${port}`,
      mono: true,
    },
    {
      name: "request model",
      value: row["gen_ai.request.model"] && (
        <Pick
          value={row["gen_ai.request.model"]}
          onPick={() => onFilter({ model: row["gen_ai.request.model"] })}
        />
      ),
      mono: true,
    },
    {
      name: "response model",
      value: row["gen_ai.response.model"],
      mono: true,
      how: row["gen_ai.response.model"] === undefined ? "" : "as the provider answered",
    },
    { name: "response id", value: row["gen_ai.response.id"], mono: true },
    { name: "HTTP status", value: text(row["http.response.status_code"]) },
    { name: "error", value: row["error.type"], mono: true },
    {
      name: "retry after",
      value: retry === undefined ? undefined : plain(duration(retry)),
      how: "asked for by the provider",
    },
    { name: "attempt", value: resend === undefined ? undefined : resend + 1, how: "numbered by the client" },
    { name: "finish reasons", value: row["gen_ai.response.finish_reasons"]?.join(", "), mono: true },
    { name: "tools called", value: row["sonde.tool_calls"]?.join(", "), mono: true },
    { name: "stream", value: row["gen_ai.request.stream"] === true ? "yes" : undefined },
    { name: "max tokens", value: text(row["gen_ai.request.max_tokens"]) },
    { name: "temperature", value: text(row["gen_ai.request.temperature"]) },
    { name: "top p", value: text(row["gen_ai.request.top_p"]) },
    { name: "choices", value: text(row["gen_ai.request.choice.count"]) },
    { name: "conversation", value: row["gen_ai.conversation.id"], mono: true },
    {
      name: "price",
      value: row["sonde.price_table"] === undefined ? undefined : `table ${row["sonde.price_table"]}`,
      how: row["sonde.cost"] === undefined ? "" : `exactly $${row["sonde.cost"]}`,
    },
    { name: "TLS library", value: tls, how: "of the service, where the kernel reads it" },
    { name: "not all was seen", value: row["sonde.incomplete"] },
    {
      name: "service",
      value:
        row["sonde.workload.key"] === undefined ? undefined : (
          <Link
            to="/services"
            search={(old: Record<string, unknown>) =>
              ({ ...spanOf(old), service: undefined, key: row["sonde.workload.key"] }) as never
            }
          >
            {row["sonde.workload.key"]}
          </Link>
        ),
      mono: true,
    },
    { name: "trace", value: row.trace_id, mono: true },
    { name: "call id", value: row["sonde.call.id"], mono: true },
  ];
}

function CallDetails({ row, onFilter }: { row: Call; onFilter: (filter: Filter) => void }) {
  const services = useServices();
  const service = services.data?.find((one) => one["sonde.workload.key"] === row["sonde.workload.key"]);
  const details = detailsOf(row, service?.["sonde.tls"], onFilter);
  const more = Object.entries(row).filter(
    ([key, value]) => !SHOWN.has(key) && !KNOWN.test(key) && text(value) !== undefined,
  );
  return (
    <>
      <Details
        of={[...details, ...more.map(([key, value]) => ({ name: key, value: text(value), mono: true }))]}
      />
      {row["sonde.recorded"] === true ? (
        <p className="section">Played from a recording: captured earlier, with its own times.</p>
      ) : null}
    </>
  );
}

const KNOWN = /^(gen_ai\.|sonde\.|server\.|http\.|error\.type$|trace_id$)/;

function Pick({ value, onPick }: { value: string; onPick: () => void }) {
  return (
    <button type="button" title="Show only these" onClick={onPick}>
      {value}
    </button>
  );
}

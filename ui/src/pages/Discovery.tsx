// Rules of discovery, and what they say about each service while they are written.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { api } from "../api/client";
import type { Provider, Rule, Rules, Service } from "../api/rows";
import { useRules, useServices } from "../frame/live";
import { inWords, MAX_RULES, ruling } from "../lib/rules";
import { Failed } from "../parts/Empty";
import { ProviderForm, RuleForm } from "./RuleForms";
import { Tester } from "./Tester";

type Kind = "include" | "exclude" | "providers";

/** What is being written: a kind, and the place in its list; the end of it for a new one. */
interface Editing {
  kind: Kind;
  at: number;
}

/** Rules to keep, and the form that they come from. */
interface Saved {
  next: Rules;
  from: Editing | undefined;
}

const ABOUT: Record<Kind, { title: string; what: string; none: string; add: string }> = {
  exclude: {
    title: "Leave out",
    what: "Programs that never count; stronger than all else.",
    none: "Nothing is left out.",
    add: "Add a rule",
  },
  include: {
    title: "Only these",
    what: "Where there are any, one has to match.",
    none: "All programs count.",
    add: "Add a rule",
  },
  providers: {
    title: "Providers",
    what: "Hosts that serve models, such as a gateway of your own.",
    none: "None beside those that are known.",
    add: "Add a provider",
  },
};

export function Discovery() {
  const rules = useRules();
  const services = useServices();
  const [editing, setEditing] = useState<Editing>();
  // The rules as they would be with what is being written; nothing is saved by typing.
  const [draft, setDraft] = useState<Rules>();
  const client = useQueryClient();
  const save = useMutation({
    mutationFn: ({ next }: Saved) => api.setRules(next),
    onSuccess: async (_, { next, from }) => {
      client.setQueryData(["rules"], next);
      // Another one may have been opened meanwhile: that stays open.
      if (opened.current === from) end();
      await client.invalidateQueries({ queryKey: ["services"] });
    },
  });
  const opened = useRef(editing);
  opened.current = editing;
  const end = () => {
    setEditing(undefined);
    setDraft(undefined);
    save.reset();
  };
  if (rules.data === undefined) {
    return (
      <div className="panel" style={{ minHeight: 180 }}>
        {rules.error === null ? null : <Failed error={rules.error} retry={() => void rules.refetch()} />}
      </div>
    );
  }
  const kept = rules.data;
  const list = (kind: Kind) => (
    <RuleList
      kind={kind}
      rules={kept}
      services={services.data ?? []}
      editing={editing?.kind === kind ? editing.at : undefined}
      busy={save.isPending}
      error={save.error}
      onEdit={(at) => {
        end();
        setEditing({ kind, at });
      }}
      onDraft={setDraft}
      onSave={(next) => save.mutate({ next, from: editing })}
      onEnd={end}
    />
  );
  return (
    <div className="discovery">
      <div className="rules">
        {list("exclude")}
        {list("include")}
        {list("providers")}
      </div>
      <Tester kept={kept} draft={draft} services={services.data} />
    </div>
  );
}

interface ListProps {
  kind: Kind;
  rules: Rules;
  services: Service[];
  editing: number | undefined;
  busy: boolean;
  error: Error | null;
  onEdit: (at: number) => void;
  onDraft: (draft: Rules | undefined) => void;
  onSave: (next: Rules) => void;
  onEnd: () => void;
}

function RuleList(props: ListProps) {
  const { kind, rules, services, editing, busy, error, onEdit, onDraft, onSave, onEnd } = props;
  const about = ABOUT[kind];
  const all: (Rule | Provider)[] = rules[kind];
  const put = (at: number, one: Rule | Provider): Rules => ({
    ...rules,
    [kind]: at < all.length ? all.map((old, i) => (i === at ? one : old)) : [...all, one],
  });
  const form = (at: number) => {
    const shared = {
      busy,
      error,
      onEnd,
      onDraft: (one: Rule | Provider | undefined) => onDraft(one === undefined ? undefined : put(at, one)),
      onSave: (one: Rule | Provider) => onSave(put(at, one)),
    };
    return kind === "providers" ? (
      <ProviderForm key={at} of={rules.providers[at]} {...shared} />
    ) : (
      <RuleForm key={at} of={rules[kind][at]} {...shared} />
    );
  };
  return (
    <section className="panel" aria-label={about.title} data-testid={`rules-${kind}`}>
      <div className="panel-head">
        <h2>{about.title}</h2>
        <span className="dim">{about.what}</span>
        <span className="bar-gap" />
        <button
          type="button"
          className="control"
          disabled={all.length >= MAX_RULES || editing === all.length}
          onClick={() => onEdit(all.length)}
        >
          {about.add}
        </button>
      </div>
      {all.length === 0 && editing === undefined ? <p className="panel-note faint">{about.none}</p> : null}
      <ul className="rule-list">
        {all.map((one, at) => (
          <li key={at} data-testid="rule">
            {editing === at ? (
              form(at)
            ) : (
              <div className="rule">
                <span className="mono">{"host" in one ? providerWords(one) : inWords(one)}</span>
                <span className="faint">{kind === "providers" ? "" : reach(one as Rule, services)}</span>
                <span className="end">
                  <button type="button" className="link" onClick={() => onEdit(at)}>
                    edit
                  </button>
                  <button
                    type="button"
                    className="link"
                    disabled={busy}
                    onClick={() => onSave({ ...rules, [kind]: all.filter((_, i) => i !== at) })}
                  >
                    remove
                  </button>
                </span>
              </div>
            )}
          </li>
        ))}
        {editing === all.length ? <li>{form(all.length)}</li> : null}
      </ul>
      {error !== null && editing === undefined ? <p className="panel-note bad">{error.message}</p> : null}
    </section>
  );
}

/** How many of the services a rule matches by itself. */
function reach(rule: Rule, services: Service[]): string {
  const alone: Rules = { include: [], exclude: [rule], providers: [] };
  const matched = services.filter((row) => !ruling(alone, row).counts).length;
  return `matches ${matched} of ${services.length}`;
}

function providerWords(of: Provider): string {
  const port = of.port === undefined ? "" : `:${of.port}`;
  return `${of.name} · ${of.host}${port}${of.path ?? ""}${of.family === undefined ? "" : ` · speaks ${of.family}`}`;
}

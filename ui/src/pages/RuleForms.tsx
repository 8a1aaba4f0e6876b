// The fields of a rule and of a provider; what is typed is tried at once, and saved when asked.
import { useState } from "react";
import type { Provider, Rule } from "../api/rows";
import {
  fieldOf,
  isClean,
  type Mistakes,
  type ProviderField,
  providerMistakes,
  RULE_FIELDS,
  type RuleField,
  ruleMistakes,
  typed,
} from "../lib/rules";
import { Answers } from "../parts/Dialog";
import { Field } from "../parts/Field";

interface Props<T> {
  /** What stands there; absent for a new one. */
  of: T | undefined;
  busy: boolean;
  /** Why it was refused. */
  error: Error | null;
  /** What it would be, while it is typed; `undefined` while it is none. */
  onDraft: (one: T | undefined) => void;
  onSave: (one: T) => void;
  onEnd: () => void;
}

const RULE_LABELS: Record<RuleField, { label: string; example: string }> = {
  namespace: { label: "Namespace", example: "kube-*" },
  label: { label: "Label", example: "team=search" },
  name: { label: "Name or key", example: "chat.py" },
  user: { label: "User", example: "postgres" },
  path: { label: "Executable", example: "/opt/ci/*" },
};

export function RuleForm({ of, busy, error, onDraft, onSave, onEnd }: Props<Rule>) {
  const [fields, setFields] = useState<Rule>(of ?? {});
  const [tried, setTried] = useState(false);
  const rule = typed(fields);
  const mistakes: Mistakes<RuleField> = ruleMistakes(rule);
  const refused = error === null ? undefined : fieldOf(error.message, RULE_FIELDS);
  const change = (field: RuleField, value: string) => {
    const next = { ...fields, [field]: value };
    setFields(next);
    const draft = typed(next);
    onDraft(isClean(ruleMistakes(draft)) ? draft : undefined);
  };
  const save = () => {
    setTried(true);
    if (isClean(mistakes)) onSave(rule);
  };
  return (
    <Frame error={refused === undefined ? error : null} busy={busy} onSave={save} onEnd={onEnd}>
      <div className="fields">
        {RULE_FIELDS.map((field, i) => (
          <Field
            key={field}
            label={RULE_LABELS[field].label}
            placeholder={RULE_LABELS[field].example}
            value={fields[field] ?? ""}
            onChange={(value) => change(field, value)}
            mistake={mistakes[field] ?? (refused === field ? error?.message : undefined)}
            first={i === 0}
          />
        ))}
      </div>
      <p className={tried && mistakes.rule !== undefined ? "bad" : "faint"}>
        {tried && mistakes.rule !== undefined
          ? mistakes.rule
          : "All that is given must hold. * stands for any run of characters; without it, the whole has to be the same."}
      </p>
    </Frame>
  );
}

const PROVIDER_LABELS: Record<ProviderField, { label: string; example: string }> = {
  name: { label: "Name", example: "our-gateway" },
  host: { label: "Host", example: "llm.*.example" },
  port: { label: "Port", example: "any" },
  path: { label: "Path begins with", example: "any" },
  family: { label: "Speaks", example: "told by the shape" },
};
const PROVIDER_FIELDS = ["name", "host", "port", "path", "family"] as const;

type Typed = Partial<Record<ProviderField, string>>;

function provider(fields: Typed): Partial<Provider> {
  const { port, ...rest } = typed(fields);
  return { ...rest, ...(port === undefined ? {} : { port: Number(port) }) };
}

export function ProviderForm({ of, busy, error, onDraft, onSave, onEnd }: Props<Provider>) {
  const [fields, setFields] = useState<Typed>({
    ...of,
    port: of?.port === undefined ? "" : String(of.port),
  });
  const [tried, setTried] = useState(false);
  const made = provider(fields);
  const mistakes: Mistakes<ProviderField> = providerMistakes(made);
  const refused = error === null ? undefined : fieldOf(error.message, PROVIDER_FIELDS);
  const change = (field: ProviderField, value: string) => {
    const next = { ...fields, [field]: value };
    setFields(next);
    const draft = provider(next);
    onDraft(isClean(providerMistakes(draft)) ? (draft as Provider) : undefined);
  };
  const save = () => {
    setTried(true);
    if (isClean(mistakes)) onSave(made as Provider);
  };
  return (
    <Frame error={refused === undefined ? error : null} busy={busy} onSave={save} onEnd={onEnd}>
      <div className="fields">
        {PROVIDER_FIELDS.map((field, i) => {
          // An empty field is only wrong once it is saved.
          const quiet = !tried && (fields[field] ?? "") === "";
          return (
            <Field
              key={field}
              label={PROVIDER_LABELS[field].label}
              placeholder={PROVIDER_LABELS[field].example}
              value={fields[field] ?? ""}
              onChange={(value) => change(field, value)}
              mistake={
                (quiet ? undefined : mistakes[field]) ?? (refused === field ? error?.message : undefined)
              }
              first={i === 0}
              number={field === "port"}
            />
          );
        })}
      </div>
      <p className="faint">
        Programs that call this host are found from then on; what they send is read as the family says, such
        as openai or anthropic.
      </p>
    </Frame>
  );
}

interface FrameProps {
  error: Error | null;
  busy: boolean;
  onSave: () => void;
  onEnd: () => void;
  children: React.ReactNode;
}

function Frame({ error, busy, onSave, onEnd, children }: FrameProps) {
  return (
    <form
      className="form rule-form"
      onSubmit={(event) => {
        event.preventDefault();
        onSave();
      }}
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        onEnd();
      }}
      ref={(form) => {
        if (form !== null && !form.contains(document.activeElement))
          form.querySelector<HTMLInputElement>("[data-first]")?.focus();
      }}
    >
      {children}
      {error === null ? null : (
        <p className="bad" role="alert">
          {error.message}
        </p>
      )}
      <Answers>
        <button type="button" className="control" onClick={onEnd}>
          Cancel
        </button>
        <button type="submit" className="control primary" disabled={busy}>
          Save
        </button>
      </Answers>
    </form>
  );
}

// Configuration of controllers in layers: what each sets, and what comes of it on every node.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api } from "../api/client";
import type { Configurations, Layer, Node, Settings } from "../api/rows";
import { LockIcon } from "../frame/icons";
import { useStatus } from "../frame/live";
import { Menu } from "../frame/Menu";
import { configState, lockOf, short } from "../lib/fleet";
import { fieldOf } from "../lib/rules";
import {
  changed,
  LAYER_WORDS,
  type Scope,
  SETTINGS,
  type Setting,
  scopes,
  settingsOf,
  shown,
  valueMistake,
} from "../lib/settings";
import { Answers } from "../parts/Dialog";
import { Failed } from "../parts/Empty";
import { Choose, Field } from "../parts/Field";
import { useMost } from "../parts/Some";

export function Configuration() {
  const asked = useQuery({
    queryKey: ["configuration"],
    queryFn: api.configuration,
    refetchInterval: 5000,
  });
  const status = useStatus();
  const nodes = status.data?.instances ?? [];
  const [chosen, setChosen] = useState("fleet ");
  if (asked.data === undefined) {
    return (
      <div className="panel" style={{ minHeight: 180 }}>
        {asked.error === null ? null : <Failed error={asked.error} retry={() => void asked.refetch()} />}
      </div>
    );
  }
  const all = scopes(nodes, asked.data.layers);
  const scope = all.find((one) => idOf(one) === chosen) ?? all[0];
  if (scope === undefined) return null;
  return (
    <>
      <section className="panel">
        <div className="panel-head">
          <h2>Set for</h2>
          <Menu
            label="Layer"
            value={idOf(scope)}
            choices={all.map((one) => ({ value: idOf(one), name: nameOf(one) }))}
            onChoose={setChosen}
          >
            <b>{nameOf(scope)}</b>
          </Menu>
          <span className="dim wide">
            The nearer layer wins: a node over its cluster, its environment, and the fleet. What a node’s own
            file forbids stays forbidden.
          </span>
        </div>
        <LayerForm key={idOf(scope)} scope={scope} kept={asked.data} nodes={nodes} />
      </section>
      <Effective of={asked.data} nodes={nodes} onChoose={(id) => setChosen(`node ${id}`)} />
    </>
  );
}

const idOf = (scope: Scope) => `${scope.layer} ${scope.name}`;
const nameOf = (scope: Scope) => (scope.layer === "fleet" ? scope.title : `${scope.layer} ${scope.title}`);

interface FormProps {
  scope: Scope;
  kept: Configurations;
  nodes: Node[];
}

function LayerForm({ scope, kept, nodes }: FormProps) {
  const before = settingsOf(kept.layers, scope.layer, scope.name);
  const [values, setValues] = useState<Record<string, string>>(() =>
    Object.fromEntries(Object.entries(before).map(([name, value]) => [name, String(value)])),
  );
  const client = useQueryClient();
  const save = useMutation({
    mutationFn: (layer: Layer) => api.setLayer(layer),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ["configuration"] });
      await client.invalidateQueries({ queryKey: ["status"] });
    },
  });
  const settings = SETTINGS.reduce<Settings>(
    (sum, one) => changed(sum, one.name, (values[one.name] ?? "").trim()),
    {},
  );
  const mistakes = SETTINGS.filter((one) => valueMistake(one, (values[one.name] ?? "").trim()) !== undefined);
  const same = SETTINGS.every((one) => settings[one.name] === before[one.name]);
  const names = SETTINGS.map((one) => one.name);
  const refused = save.error === null ? undefined : fieldOf(save.error.message, names);
  const error =
    scope.layer === "node" ? nodes.find((node) => node.id === scope.name)?.applied?.error : undefined;
  return (
    <form
      className="form settings-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (mistakes.length === 0 && !same) save.mutate({ layer: scope.layer, name: scope.name, settings });
      }}
    >
      <div className="settings">
        {SETTINGS.map((one) => (
          <One
            key={one.name}
            of={one}
            value={values[one.name] ?? ""}
            inherited={inherited(one, scope, kept, nodes)}
            locked={lockOf(one.name, error)}
            mistake={
              valueMistake(one, (values[one.name] ?? "").trim()) ??
              (refused === one.name ? save.error?.message : undefined)
            }
            onChange={(value) => setValues((old) => ({ ...old, [one.name]: value }))}
          />
        ))}
      </div>
      {save.error !== null && refused === undefined ? (
        <p className="bad" role="alert">
          {save.error.message}
        </p>
      ) : null}
      <Answers>
        <span className="faint" role="status">
          {save.isSuccess && same ? "Kept; the nodes hear of it at once." : ""}
        </span>
        <button
          type="submit"
          className="control primary"
          disabled={same || mistakes.length > 0 || save.isPending}
        >
          Save
        </button>
      </Answers>
    </form>
  );
}

/** What holds where this layer sets nothing, in words. */
function inherited(one: Setting, scope: Scope, kept: Configurations, nodes: Node[]): string {
  const node = scope.layer === "node" ? nodes.find((found) => found.id === scope.name) : undefined;
  const above: [Layer["layer"], string | undefined][] =
    scope.layer === "fleet"
      ? []
      : node === undefined
        ? [["fleet", ""]]
        : [
            ["cluster", node.cluster],
            ["environment", node.environment],
            ["fleet", ""],
          ];
  for (const [layer, name] of above) {
    if (name === undefined) continue;
    const value = settingsOf(kept.layers, layer, name)[one.name];
    if (value !== undefined) return `${shown(one, value)}, of ${LAYER_WORDS[layer]}`;
  }
  return "each controller’s own";
}

interface OneProps {
  of: Setting;
  value: string;
  inherited: string;
  locked: string | undefined;
  mistake: string | undefined;
  onChange: (value: string) => void;
}

function One({ of, value, inherited: from, locked, mistake, onChange }: OneProps) {
  if (locked !== undefined) {
    return (
      <div className="field locked" data-testid="locked">
        <span className="label">
          <LockIcon /> {of.title}
        </span>
        <p className="faint">{locked}</p>
      </div>
    );
  }
  const help = value === "" ? `${of.help} Now: ${from}.` : of.help;
  if ("words" in of.of) {
    return (
      <div className="field">
        <span className="label">{of.title}</span>
        <Choose
          label={of.title}
          value={value}
          choices={[{ value: "", name: "inherit" }, ...of.of.words]}
          onChange={onChange}
        />
        <p className={mistake === undefined ? "faint" : "bad"}>{mistake ?? help}</p>
      </div>
    );
  }
  return (
    <Field
      label={`${of.title} (${of.of.unit})`}
      value={value}
      onChange={onChange}
      placeholder="inherit"
      help={help}
      mistake={mistake}
      number
    />
  );
}

interface EffectiveProps {
  of: Configurations;
  nodes: Node[];
  onChoose: (id: string) => void;
}

function Effective({ of, nodes, onChoose }: EffectiveProps) {
  const rows = nodes.filter((node) => node.recorded !== true);
  const { most, more } = useMost(rows.length);
  if (rows.length === 0) {
    return (
      <section className="panel">
        <p className="panel-note faint">
          No controller reports here yet; what is set holds for those that come.
        </p>
      </section>
    );
  }
  return (
    <section className="panel" data-testid="effective">
      <div className="panel-head">
        <h2>What comes of it</h2>
        <span className="dim">Each value with the layer that it comes from.</span>
      </div>
      <div className="scroll">
        <table className="effective-table">
          <thead>
            <tr>
              <th>Node</th>
              {SETTINGS.map((one) => (
                <th key={one.name}>{one.title}</th>
              ))}
              <th>In effect</th>
            </tr>
          </thead>
          <tbody>
            {rows.slice(0, most).map((node) => {
              const found = of.instances.find((one) => one.id === node.id);
              const configuration = found?.configuration;
              const { tone, text } = configState(found ?? {});
              return (
                <tr key={node.id}>
                  <td className="strong keep">
                    <button type="button" className="strong clip" onClick={() => onChoose(node.id)}>
                      {node.host_name}
                    </button>
                  </td>
                  {SETTINGS.map((one) => {
                    const value = configuration?.settings[one.name];
                    const origin = configuration?.origin?.[one.name];
                    const locked = lockOf(one.name, found?.applied?.error);
                    return (
                      <td key={one.name} title={locked}>
                        {value === undefined ? (
                          <span className="faint">its own</span>
                        ) : (
                          <>
                            {locked === undefined ? null : (
                              <span className="lock warn">
                                <LockIcon />
                              </span>
                            )}
                            {shown(one, value)}{" "}
                            <span className="faint">{origin === undefined ? "" : LAYER_WORDS[origin]}</span>
                          </>
                        )}
                      </td>
                    );
                  })}
                  <td className={tone === "bad" ? "bad clip keep" : "dim clip keep"} title={text}>
                    <span className={`dot ${tone}`} /> {text}{" "}
                    <span className="faint mono">
                      {text === "its own" || configuration === undefined ? "" : short(configuration.hash)}
                    </span>
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
      {more}
    </section>
  );
}

// The table of services: its rows in groups, each with its dial.
import { useMemo } from "react";
import type { Service } from "../api/rows";
import { useNow } from "../frame/live";
import { ago, count, plural } from "../lib/format";
import { first, type Group, type Grouping, NAMELESS } from "../lib/many";
import { by, runtime, strongest, sure, type Wish, where } from "../lib/service";
import { Dial } from "../parts/Dial";
import { Num } from "../parts/Num";
import { ServiceState } from "../parts/ServiceState";
import { useMost } from "../parts/Some";

interface TableProps {
  groups: Group[] | undefined;
  grouping: Grouping | undefined;
  selected: ReadonlySet<string>;
  onSelect: (keys: string[], on: boolean) => void;
  open: string | undefined;
  wishes: Record<string, Wish>;
  onWish: (key: string, wish: Wish | undefined) => void;
  onOpen: (key: string) => void;
  narrow: boolean;
}

export function ServiceTable(props: TableProps) {
  const { groups, grouping, open, selected, onSelect, wishes, onWish, onOpen, narrow } = props;
  const now = useNow();
  const keys = groups?.flatMap((one) => one.rows.map((row) => row["sonde.workload.key"])) ?? [];
  const { most, more } = useMost(keys.length);
  return (
    <>
      <table className={narrow ? "service-table narrow" : "service-table"}>
        <thead>
          <tr>
            <th className="w-tick">
              <Tick label="Select all that are shown" keys={keys} selected={selected} onSelect={onSelect} />
            </th>
            <th className="w-name">Service</th>
            {narrow ? null : (
              <>
                <th className="w-where">Where</th>
                <th className="w-runtime">Runtime</th>
                <th className="w-to">Calls to</th>
                <th className="w-by">Recognised by</th>
              </>
            )}
            <th className="w-dial">Capture</th>
            <th className="w-state">State</th>
            {narrow ? null : (
              <>
                <th className="num w-n">Instances</th>
                <th className="num w-n">Calls/min</th>
                <th className="num w-seen">Seen</th>
              </>
            )}
          </tr>
        </thead>
        {groups === undefined ? (
          <tbody>
            {Array.from({ length: 6 }, (_, i) => (
              <BoneRow key={i} />
            ))}
          </tbody>
        ) : (
          first(groups, most).map(({ group, rows }) => (
            <tbody key={group.name}>
              {grouping === undefined ? null : (
                <GroupRow
                  of={group}
                  grouping={grouping}
                  span={narrow ? 3 : 10}
                  selected={selected}
                  onSelect={onSelect}
                />
              )}
              {rows.map((row) => {
                const key = row["sonde.workload.key"];
                return (
                  <Row
                    key={key}
                    row={row}
                    now={now}
                    narrow={narrow}
                    isOpen={key === open}
                    isSelected={selected.has(key)}
                    onSelect={onSelect}
                    wish={wishes[key]}
                    onWish={onWish}
                    onOpen={onOpen}
                  />
                );
              })}
            </tbody>
          ))
        )}
      </table>
      {more}
    </>
  );
}

interface TickProps {
  label: string;
  keys: string[];
  selected: ReadonlySet<string>;
  onSelect: (keys: string[], on: boolean) => void;
}

/** One box for several services: full when all of them are selected, a dash when some are. */
function Tick({ label, keys, selected, onSelect }: TickProps) {
  const on = keys.filter((key) => selected.has(key)).length;
  const all = keys.length > 0 && on === keys.length;
  return (
    <input
      type="checkbox"
      aria-label={label}
      checked={all}
      ref={(box) => {
        if (box !== null) box.indeterminate = on > 0 && !all;
      }}
      onClick={(event) => event.stopPropagation()}
      onChange={() => onSelect(keys, !all)}
    />
  );
}

interface GroupRowProps {
  of: Group;
  grouping: Grouping;
  span: number;
  selected: ReadonlySet<string>;
  onSelect: (keys: string[], on: boolean) => void;
}

function GroupRow({ of, grouping, span, selected, onSelect }: GroupRowProps) {
  const name = of.name === "" ? NAMELESS[grouping] : of.name;
  return (
    <tr className="group-row" data-testid="group">
      <td className="keep">
        <Tick
          label={`Select all of ${name}`}
          keys={of.rows.map((row) => row["sonde.workload.key"])}
          selected={selected}
          onSelect={onSelect}
        />
      </td>
      <td className="keep" colSpan={span}>
        <b>{name}</b> <span className="faint">{plural(of.rows.length, "service")}</span>
      </td>
    </tr>
  );
}

function BoneRow() {
  return (
    <tr>
      {[12, 120, 90, 70, 60, 120, 110, 150, 30, 30, 30].map((width, i) => (
        <td key={i} className={i === 1 ? "keep" : ""}>
          <span className="bone" style={{ width }} />
        </td>
      ))}
    </tr>
  );
}

interface RowProps {
  row: Service;
  now: number;
  narrow: boolean;
  isOpen: boolean;
  isSelected: boolean;
  wish: Wish | undefined;
  onSelect: (keys: string[], on: boolean) => void;
  onWish: (key: string, wish: Wish | undefined) => void;
  onOpen: (key: string) => void;
}

function Row({ row, now, narrow, isOpen, isSelected, wish, onSelect, onWish, onOpen }: RowProps) {
  const key = row["sonde.workload.key"];
  const instances = row["sonde.instances"]?.length ?? 0;
  const rate = row["sonde.calls_per_minute"];
  const best = strongest(row);
  const give = useMemo(() => (value: Wish | undefined) => onWish(key, value), [key, onWish]);
  const recognised = best === undefined ? "" : `${by(best)} ${best.seen}`;
  const certainty = best === undefined ? "" : sure(best).word;
  return (
    <tr
      className="row"
      data-testid="service-row"
      data-key={key}
      data-name={row["service.name"]}
      aria-current={isOpen}
      data-stopped={instances === 0}
      onClick={() => onOpen(key)}
    >
      <td className="tick">
        <input
          type="checkbox"
          aria-label={`Select ${row["service.name"]}`}
          checked={isSelected}
          onClick={(event) => event.stopPropagation()}
          onChange={() => onSelect([key], !isSelected)}
        />
      </td>
      <td className="strong keep">
        <span className="named">
          <button type="button" onClick={() => onOpen(key)} title={key} className="strong clip">
            {row["service.name"]}
          </button>
          {row["sonde.recorded"] === true ? <span className="tag"> recorded</span> : null}
        </span>
      </td>
      {narrow ? null : (
        <>
          <td className="clip dim" title={where(row)}>
            {where(row)}
          </td>
          <td className="clip dim" title={runtime(row)}>
            {runtime(row)}
          </td>
          <td className="clip dim">{(row["sonde.providers"] ?? []).join(", ")}</td>
          <td className="clip dim" title={`${recognised} (${certainty})`}>
            {certainty === "certain" || certainty === "" ? "" : `${certainty}: `}
            {recognised}
          </td>
        </>
      )}
      <td className="keep">
        <Dial row={row} wish={wish} onWish={give} />
      </td>
      <td className="state-cell keep">
        <ServiceState row={row} wish={wish} />
      </td>
      {narrow ? null : (
        <>
          <td className="num">{instances === 0 ? <span className="faint">–</span> : instances}</td>
          <td className="num">
            {rate === undefined ? (
              <span className="faint">–</span>
            ) : (
              <Num of={rate < 10 ? { value: rate.toFixed(1), unit: "" } : count(rate)} exact={String(rate)} />
            )}
          </td>
          <td className="num faint" title={row["sonde.last_seen"]}>
            {ago(row["sonde.last_seen"], now)}
          </td>
        </>
      )}
    </tr>
  );
}

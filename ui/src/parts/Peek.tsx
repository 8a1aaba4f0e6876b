// The panel at the right: its frame, and lists of facts in it.
import type { ReactNode } from "react";
import { keyLabel } from "../lib/keys";
import { put } from "./Command";

interface Props {
  title: ReactNode;
  sub: ReactNode;
  label: string;
  onClose: () => void;
  children: ReactNode;
}

export function Peek({ title, sub, label, onClose, children }: Props) {
  return (
    <aside className="peek" aria-label={label} data-testid="peek">
      <div className="peek-head">
        {title}
        <span className="end">
          <kbd className="hint">j k</kbd>
          <button type="button" onClick={() => void put(location.href, null)} title="Copy a link to this">
            <kbd>link</kbd>
          </button>
          <button type="button" onClick={onClose} aria-label="Close">
            <kbd>{keyLabel("Escape")}</kbd>
          </button>
        </span>
      </div>
      <p className="peek-sub">{sub}</p>
      {children}
    </aside>
  );
}

export function Facts({ of }: { of: { name: string; value: ReactNode }[] }) {
  return (
    <dl className="facts">
      {of.map((one) => (
        <div key={one.name}>
          <dt>{one.name}</dt>
          <dd>{one.value}</dd>
        </div>
      ))}
    </dl>
  );
}

export interface Detail {
  name: string;
  value: ReactNode;
  /** How it is known. */
  how?: ReactNode;
  mono?: boolean;
}

export function Details({ of }: { of: (Detail | undefined)[] }) {
  return (
    <dl className="details">
      {of.map((one) =>
        one === undefined || one.value === undefined || one.value === "" ? null : (
          <Pair key={one.name} of={one} />
        ),
      )}
    </dl>
  );
}

function Pair({ of }: { of: Detail }) {
  return (
    <>
      <dt>{of.name}</dt>
      <dd>
        <span className={of.mono ? "mono" : ""}>{of.value}</span>
        {of.how === undefined || of.how === "" ? null : <span className="faint"> {of.how}</span>}
      </dd>
    </>
  );
}

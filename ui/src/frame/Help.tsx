// All keys, from the one table.
import { useEffect, useRef } from "react";
import { KEYS, type Key, keyLabel } from "../lib/keys";
import { useKeys } from "./keys";

export function Help({ onClose }: { onClose: () => void }) {
  const box = useRef<HTMLDivElement>(null);
  useKeys({ Escape: onClose, "?": onClose });
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    box.current?.focus();
    return () => before?.focus();
  }, []);
  const groups: Key["group"][] = ["Go to", "On every page", "In a list"];
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: a click beside the dialog closes it, as Escape does
    <div className="dialog-back" onClick={(event) => event.target === event.currentTarget && onClose()}>
      <div className="dialog" role="dialog" aria-modal="true" aria-label="Keys" tabIndex={-1} ref={box}>
        <h2>Keys</h2>
        <div className="key-groups">
          {groups.map((group) => (
            <section key={group}>
              <h3>{group}</h3>
              <ul>
                {KEYS.filter((one) => one.group === group).map((one) => (
                  <li key={one.keys}>
                    {one.what} <kbd>{keyLabel(one.keys)}</kbd>
                  </li>
                ))}
              </ul>
            </section>
          ))}
          <section>
            <h3>The dial</h3>
            <ul>
              <li>
                Choose <kbd>← →</kbd>
              </li>
              <li>
                Set <kbd>space</kbd>
              </li>
            </ul>
          </section>
        </div>
      </div>
    </div>
  );
}

// All keys, from the one table.
import { KEYS, type Key, keyLabel } from "../lib/keys";
import { Dialog } from "../parts/Dialog";
import { useKeys } from "./keys";

export function Help({ onClose }: { onClose: () => void }) {
  useKeys({ "?": onClose });
  const groups: Key["group"][] = ["Go to", "On every page", "In a list"];
  return (
    <Dialog label="Keys" onClose={onClose}>
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
    </Dialog>
  );
}

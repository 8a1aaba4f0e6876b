// One level for several services: what it means for each is said before it is done.
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api } from "../api/client";
import type { Level, Service } from "../api/rows";
import { plural } from "../lib/format";
import { effects } from "../lib/many";
import { QUIET, type Wish } from "../lib/service";
import { Answers, Dialog } from "../parts/Dialog";
import { Choose } from "../parts/Field";

interface Props {
  rows: Service[];
  onWish: (key: string, wish: Wish | undefined) => void;
  onDone: () => void;
  onClose: () => void;
}

// A hundred wishes at once would only wait for the same disk.
const AT_ONCE = 4;
// More names than that are not read.
const NAMES = 6;

export function Bulk({ rows, onWish, onDone, onClose }: Props) {
  const [level, setLevel] = useState<Level>("network");
  const client = useQueryClient();
  const listed = effects(rows, level);
  const acting = listed.filter((one) => one.acts).flatMap((one) => one.rows);
  const act = async () => {
    onClose();
    onDone();
    const left = acting.map((row) => row["sonde.workload.key"]);
    for (const key of left) onWish(key, { level });
    const worker = async () => {
      for (let key = left.pop(); key !== undefined; key = left.pop()) {
        try {
          await api.setCapture(key, level);
        } catch (error) {
          onWish(key, { level, refused: error instanceof Error ? error.message : String(error) });
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    await client.invalidateQueries({ queryKey: ["services"] });
  };
  return (
    <Dialog label={`Set capture of ${plural(rows.length, "service")}`} onClose={onClose}>
      <Choose
        label="Capture"
        value={level}
        choices={QUIET.map((one) => ({ value: one.level, name: one.name }))}
        onChange={(value) => setLevel(value === "off" ? "off" : "network")}
      />
      <ul className="effects" data-testid="effects">
        {listed.map((one) => (
          <li key={one.what}>
            <span className={one.acts ? "num strong" : "num faint"}>{one.rows.length}</span>
            <span>
              {one.what}
              <span className="why">
                {one.rows
                  .slice(0, NAMES)
                  .map((row) => row["service.name"])
                  .join(", ")}
                {one.rows.length > NAMES ? ` and ${one.rows.length - NAMES} more` : ""}
              </span>
            </span>
          </li>
        ))}
      </ul>
      <Answers>
        <button type="button" className="control" onClick={onClose}>
          Cancel
        </button>
        <button
          type="button"
          className="control primary"
          disabled={acting.length === 0}
          onClick={() => void act()}
          data-first
        >
          {acting.length === 0 ? "Nothing to change" : `Set ${plural(acting.length, "service")}`}
        </button>
      </Answers>
    </Dialog>
  );
}

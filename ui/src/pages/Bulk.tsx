// One level for several services: what it means for each is said before it is done.
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { api } from "../api/client";
import type { Level, Service } from "../api/rows";
import { plural } from "../lib/format";
import { type Answer, effects } from "../lib/many";
import { LEVELS, type Wish } from "../lib/service";
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
  const answers = useAnswers(rows, level);
  const listed = effects(rows, level, answers);
  const isAsking = asked(rows, level).some((row) => !answers.has(row["sonde.workload.key"]));
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
        choices={LEVELS.map((one) => ({ value: one.level, name: one.name }))}
        onChange={(value) => setLevel(LEVELS.find((one) => one.level === value)?.level ?? "network")}
      />
      {level !== "full" ? null : (
        <p className="dim">
          Each of them is restarted once with the SDK, watched, and put back as it was if it does not stay
          healthy. Full on a row shows exactly what is changed there.
        </p>
      )}
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
          disabled={acting.length === 0 || isAsking}
          onClick={() => void act()}
          data-first
        >
          {acting.length === 0 ? "Nothing to change" : `Set ${plural(acting.length, "service")}`}
        </button>
      </Answers>
    </Dialog>
  );
}

/** Those whose nodes have to say what Full would change. */
const asked = (rows: Service[], level: Level) =>
  level !== "full"
    ? []
    : rows.filter((row) => row["sonde.recorded"] !== true && row["sonde.capture.observed"] !== "full");

/** What the nodes say, by key, as far as they have: a few are asked at a time. */
function useAnswers(rows: Service[], level: Level): Map<string, Answer> {
  const [answers, setAnswers] = useState(new Map<string, Answer>());
  const keys = JSON.stringify(asked(rows, level).map((row) => row["sonde.workload.key"]));
  useEffect(() => {
    let over = false;
    const left: string[] = JSON.parse(keys);
    const worker = async () => {
      for (let key = left.shift(); key !== undefined && !over; key = left.shift()) {
        const one = key;
        const answer = await api
          .preview(one)
          .catch((error: unknown) => ({ possible: false, reason: String(error) }));
        if (!over) setAnswers((old) => new Map(old).set(one, answer));
      }
    };
    for (let at = 0; at < AT_ONCE; at += 1) void worker();
    return () => {
      over = true;
    };
  }, [keys]);
  return answers;
}

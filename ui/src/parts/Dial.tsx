// Off · Network · Full: one segmented control in the row of a service. Full shows first what it changes.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type KeyboardEvent, useEffect, useRef, useState } from "react";
import { api } from "../api/client";
import type { Level, Service } from "../api/rows";
import { dial, LEVELS, type Wish } from "../lib/service";
import { Full } from "./Full";

interface Props {
  row: Service;
  wish: Wish | undefined;
  onWish: (wish: Wish | undefined) => void;
}

export function Dial({ row, wish, onWish }: Props) {
  const key = row["sonde.workload.key"];
  const client = useQueryClient();
  const stand = dial(row, wish);
  const group = useRef<HTMLDivElement>(null);
  const set = useMutation({
    mutationFn: (level: Level) => api.setCapture(key, level),
    onMutate: (level) => onWish({ level }),
    onError: (error, level) => onWish({ level, refused: error.message }),
    onSettled: () => client.invalidateQueries({ queryKey: ["services"] }),
  });

  // The list shows the wish: from here on it knows better than this page.
  const seen =
    wish !== undefined && wish.refused === undefined && row["sonde.capture.desired"] === wish.level;
  useEffect(() => {
    if (seen && !set.isPending) onWish(undefined);
  }, [seen, set.isPending, onWish]);

  const [asking, setAsking] = useState(false);
  const choose = (level: Level) => {
    if (stand.locked !== undefined || level === stand.level) return;
    if (level === "full") setAsking(true);
    else set.mutate(level);
  };
  const move = (event: KeyboardEvent) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const next = beside(group.current, event.target, by);
    next?.focus();
    const level = LEVELS.find((one) => one.level === next?.dataset.level)?.level;
    // An arrow opens no dialog: Enter on Full does.
    if (level !== undefined && level !== "full") choose(level);
  };

  return (
    <div
      ref={group}
      className="dial"
      role="radiogroup"
      aria-label={`Capture of ${row["service.name"]}`}
      data-testid="dial"
      data-key={key}
      title={stand.locked}
      onKeyDown={move}
    >
      {LEVELS.map(({ level, name }) => {
        const chosen = stand.level === level;
        return (
          <button
            key={level}
            type="button"
            role="radio"
            aria-checked={chosen}
            data-level={level}
            data-pending={chosen && stand.pending}
            tabIndex={chosen ? 0 : -1}
            disabled={stand.locked !== undefined}
            onClick={(event) => {
              event.stopPropagation();
              choose(level);
            }}
          >
            {name}
          </button>
        );
      })}
      {asking ? (
        <Full
          row={row}
          onClose={() => setAsking(false)}
          onEnable={() => {
            setAsking(false);
            set.mutate("full");
          }}
        />
      ) : null}
    </div>
  );
}

/** The button so many places further on in the group, round about. */
function beside(group: HTMLElement | null, from: EventTarget, by: number): HTMLButtonElement | undefined {
  const buttons = [...(group?.querySelectorAll("button") ?? [])];
  const at = buttons.indexOf(from as HTMLButtonElement);
  return buttons[(at + by + buttons.length) % buttons.length];
}

// The name of a service, to be changed in place. Its key stays.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { api } from "../api/client";
import type { Service } from "../api/rows";
import { PencilIcon } from "../frame/icons";
import { useKeys } from "../frame/keys";

export function ServiceName({ row }: { row: Service }) {
  const key = row["sonde.workload.key"];
  const [editing, setEditing] = useState(false);
  const recorded = row["sonde.recorded"] === true;
  useKeys({ e: () => !recorded && setEditing(true) });
  // biome-ignore lint/correctness/useExhaustiveDependencies: another service is another name
  useEffect(() => setEditing(false), [key]);
  if (editing) return <Edit row={row} onEnd={() => setEditing(false)} />;
  return (
    <h2>
      {row["service.name"]}{" "}
      {recorded ? (
        <span className="tag">recorded</span>
      ) : (
        <button
          type="button"
          className="pencil"
          aria-label="Rename"
          title="Rename (e)"
          onClick={() => setEditing(true)}
        >
          <PencilIcon />
        </button>
      )}
    </h2>
  );
}

function Edit({ row, onEnd }: { row: Service; onEnd: () => void }) {
  const [name, setName] = useState(row["service.name"]);
  const box = useRef<HTMLInputElement>(null);
  const client = useQueryClient();
  const save = useMutation({
    mutationFn: () => api.setName(row["sonde.workload.key"], name.trim()),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ["services"] });
      onEnd();
    },
  });
  useEffect(() => {
    // Into sight, too, wherever the panel is scrolled to.
    box.current?.focus();
    box.current?.select();
  }, []);
  return (
    <form
      className="rename"
      onSubmit={(event) => {
        event.preventDefault();
        if (name.trim() === row["service.name"]) onEnd();
        else save.mutate();
      }}
    >
      <input
        ref={box}
        className="input"
        aria-label="Name of the service"
        aria-invalid={save.isError}
        value={name}
        placeholder="empty: the name that was found"
        onChange={(event) => setName(event.target.value)}
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          // The panel stays open.
          event.stopPropagation();
          onEnd();
        }}
      />
      <p className={save.isError ? "bad" : "faint"} role={save.isError ? "alert" : undefined}>
        {save.isError
          ? save.error.message
          : save.isPending
            ? "saving …"
            : "⏎ saves, esc cancels; empty goes back to the name that was found. The key stays."}
      </p>
    </form>
  );
}

// What Full would change in a program: shown before anything is done.
import { useQuery } from "@tanstack/react-query";
import { createPortal } from "react-dom";
import { api } from "../api/client";
import type { Service } from "../api/rows";
import { byHand } from "../lib/service";
import { Command } from "./Command";
import { Answers, Dialog } from "./Dialog";

interface Props {
  row: Service;
  onClose: () => void;
  onEnable: () => void;
}

export function Full({ row, onClose, onEnable }: Props) {
  const key = row["sonde.workload.key"];
  const asked = useQuery({
    queryKey: ["preview", key],
    queryFn: () => api.preview(key),
    gcTime: 0,
    staleTime: Number.POSITIVE_INFINITY,
    retry: false,
    refetchOnWindowFocus: false,
  });
  const preview = asked.data;
  const shown = byHand(preview?.text ?? "");
  const refused = asked.isError ? asked.error.message : preview?.possible === false ? preview.reason : "";
  // What is pressed here is no business of the row below.
  return createPortal(
    // biome-ignore lint/a11y/noStaticElementInteractions: it only keeps events of the dialog to itself
    <div onClick={(event) => event.stopPropagation()} onKeyDown={(event) => event.stopPropagation()}>
      <Dialog label={`Put the SDK into ${row["service.name"]}`} onClose={onClose}>
        <p>
          Beside its model calls, Full shows the agents, tools and chains around them. The program is
          restarted once, watched, and put back as it was if it does not stay healthy.
        </p>
        {preview === undefined && !asked.isError ? (
          <p className="faint">{row["host.name"] ?? "The node"} says what would be changed …</p>
        ) : null}
        {refused === "" ? null : (
          <p className="bad" data-testid="preview-refused">
            {refused}
          </p>
        )}
        {shown.text === "" ? null : (
          <pre className="command preview" data-testid="preview">
            {shown.text}
          </pre>
        )}
        {shown.ways.map((way) => (
          <div key={way.tool} data-testid="by-hand">
            <p className="dim">By hand, with {way.tool}:</p>
            <Command text={way.text} />
          </div>
        ))}
        <Answers>
          <button type="button" className="control" onClick={onClose} data-first>
            Cancel
          </button>
          <button
            type="button"
            className="control primary"
            disabled={preview?.possible !== true}
            onClick={onEnable}
            data-testid="enable-full"
          >
            Enable, watched
          </button>
        </Answers>
      </Dialog>
    </div>,
    document.body,
  );
}

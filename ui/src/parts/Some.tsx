// The first of many rows: a list of thousands would make the browser slow, and nobody reads it.
import { type ReactNode, useState } from "react";
import { whole } from "../lib/format";

/** Rows that are shown at first, and how many more come with each click. */
const STEP = 200;

/** How many of so many rows to show, and the line that shows more. */
export function useMost(total: number): { most: number; more: ReactNode } {
  const [most, setMost] = useState(STEP);
  if (total <= most) return { most, more: null };
  const more = (
    <div className="list-end">
      {whole(most)} of {whole(total)}
      <button type="button" className="control" onClick={() => setMost(most + STEP)}>
        Show {whole(Math.min(STEP, total - most))} more
      </button>
    </div>
  );
  return { most, more };
}

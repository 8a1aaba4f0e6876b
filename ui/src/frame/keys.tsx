// One listener for all keys; pages say what theirs do.
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { KEYS, type KeyName, press, type Reading } from "../lib/keys";

type Action = (event: KeyboardEvent) => void;

// The innermost page or panel is last, and wins.
const stack: { current: Partial<Record<KeyName, Action>> }[] = [];

/** What keys do while the component is on the page. */
export function useKeys(actions: Partial<Record<KeyName, Action>>) {
  const layer = useRef(actions);
  layer.current = actions;
  useEffect(() => {
    stack.push(layer);
    return () => {
      stack.splice(stack.indexOf(layer), 1);
    };
  }, []);
}

/** Listens; once, in the frame. */
export function useKeyboard() {
  const navigate = useNavigate();
  useEffect(() => {
    let reading: Reading = {};
    const down = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      const target = event.target as HTMLElement;
      const typing = target.matches("input, textarea, select, [contenteditable]");
      if (typing && event.key !== "Escape") return;
      // Enter on a link or a button is theirs.
      if (event.key === "Enter" && target.closest("a, button") !== null) return;
      const answer = press(reading, event.key, performance.now());
      reading = answer.reading;
      const { hit } = answer;
      if (hit === undefined) return;
      const action = stack.findLast((layer) => layer.current[hit] !== undefined)?.current[hit];
      if (action !== undefined) {
        event.preventDefault();
        action(event);
        return;
      }
      const entry = KEYS.find((one) => one.keys === hit);
      if (entry !== undefined && "to" in entry) {
        event.preventDefault();
        void navigate({ to: entry.to, search: keepSpan });
      } else if (hit === "Escape" && typing) target.blur();
    };
    addEventListener("keydown", down);
    return () => removeEventListener("keydown", down);
  }, [navigate]);
}

/** From page to page, the time and the service stay; the rest is the page's own. */
export function spanOf(search: Record<string, unknown>): Record<string, unknown> {
  const { range, from, to, service } = search;
  return { range, from, to, service };
}

/** The same, as a link takes it: the router does not know the pages' types. */
export const keepSpan = (search: Record<string, unknown>) => spanOf(search) as never;

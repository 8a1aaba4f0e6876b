// A box over the page that wants an answer: focus stays with it, Escape and a click beside it close it.
import { type ReactNode, useEffect, useRef } from "react";
import { useKeys } from "../frame/keys";

interface Props {
  label: string;
  onClose: () => void;
  children: ReactNode;
  /** False where a stray click must not lose what is shown. */
  light?: boolean;
}

const REACHED = "button:not(:disabled), input, select, textarea, a[href]";

export function Dialog({ label, onClose, children, light = true }: Props) {
  const box = useRef<HTMLDivElement>(null);
  useKeys({ Escape: onClose });
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    const first = box.current?.querySelector<HTMLElement>("[data-first]") ?? box.current;
    first?.focus();
    return () => before?.focus();
  }, []);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: a click beside the dialog closes it, as Escape does
    <div
      className="dialog-back"
      onClick={(event) => light && event.target === event.currentTarget && onClose()}
    >
      <div
        className="dialog"
        role="dialog"
        aria-modal="true"
        aria-label={label}
        tabIndex={-1}
        ref={box}
        onKeyDown={(event) => {
          if (event.key !== "Tab") return;
          const all = [...(box.current?.querySelectorAll<HTMLElement>(REACHED) ?? [])];
          const [first, last] = [all[0], all.at(-1)];
          const from = document.activeElement;
          const to =
            event.shiftKey && (from === first || from === box.current)
              ? last
              : !event.shiftKey && from === last
                ? first
                : undefined;
          if (to === undefined) return;
          event.preventDefault();
          to.focus();
        }}
      >
        <h2>{label}</h2>
        {children}
      </div>
    </div>
  );
}

/** The row of buttons at the end. */
export function Answers({ children }: { children: ReactNode }) {
  return <div className="answers">{children}</div>;
}

interface ConfirmProps {
  label: string;
  action: string;
  onClose: () => void;
  onYes: () => Promise<unknown>;
  busy: boolean;
  error: Error | null;
  children: ReactNode;
}

/** Asks once before something that cannot be taken back. */
export function Confirm({ label, action, onClose, onYes, busy, error, children }: ConfirmProps) {
  return (
    <Dialog label={label} onClose={onClose}>
      <div className="dim">{children}</div>
      {error === null ? null : <p className="bad">{error.message}</p>}
      <Answers>
        <button type="button" className="control" onClick={onClose} data-first>
          Cancel
        </button>
        <button
          type="button"
          className="control danger"
          disabled={busy}
          onClick={() => void onYes().then(onClose, () => undefined)}
        >
          {action}
        </button>
      </Answers>
    </Dialog>
  );
}

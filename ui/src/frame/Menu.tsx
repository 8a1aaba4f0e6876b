// A button with a list to choose one from.
import { type KeyboardEvent, type ReactNode, useEffect, useId, useRef, useState } from "react";

interface Choice {
  value: string;
  name: string;
}

interface Props {
  label: string;
  choices: Choice[];
  value: string;
  onChoose: (value: string) => void;
  children: ReactNode;
  right?: boolean | undefined;
  /** Opened by a key from outside: a number that grows. */
  opened?: number;
  icon?: boolean;
}

export function Menu({ label, choices, value, onChoose, children, right, opened = 0, icon }: Props) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);

  useEffect(() => {
    if (opened > 0) setOpen(true);
  }, [opened]);
  useEffect(() => {
    if (!open) return;
    const away = (event: PointerEvent) => {
      if (root.current?.contains(event.target as Element) !== true) setOpen(false);
    };
    addEventListener("pointerdown", away);
    return () => removeEventListener("pointerdown", away);
  }, [open]);

  const close = () => {
    setOpen(false);
    button.current?.focus();
  };
  return (
    <div className="menu" ref={root}>
      <button
        ref={button}
        type="button"
        className={icon ? "control icon" : "control"}
        aria-haspopup="listbox"
        aria-expanded={open}
        aria-label={icon ? label : undefined}
        title={icon ? label : undefined}
        onClick={() => (open ? close() : setOpen(true))}
      >
        {children}
        {icon ? null : <span className="caret">▾</span>}
      </button>
      {open ? (
        <List
          label={label}
          choices={choices}
          value={value}
          right={right}
          onChoose={onChoose}
          onClose={close}
        />
      ) : null}
    </div>
  );
}

type ListProps = Pick<Props, "label" | "choices" | "value" | "right" | "onChoose"> & { onClose: () => void };

/** The open list, which has the keys. */
function List({ label, choices, value, right, onChoose, onClose }: ListProps) {
  const chosen = choices.findIndex((one) => one.value === value);
  const [active, setActive] = useState(Math.max(0, chosen));
  const list = useRef<HTMLDivElement>(null);
  const id = useId();
  useEffect(() => list.current?.focus(), []);
  useEffect(() => {
    list.current?.children[active]?.scrollIntoView({ block: "nearest" });
  }, [active]);

  const choose = (index: number) => {
    const choice = choices[index];
    if (choice !== undefined) onChoose(choice.value);
    onClose();
  };
  const key = (event: KeyboardEvent) => {
    const moves: Record<string, number> = {
      ArrowDown: Math.min(choices.length - 1, active + 1),
      ArrowUp: Math.max(0, active - 1),
      Home: 0,
      End: choices.length - 1,
    };
    const to = moves[event.key];
    if (to !== undefined) setActive(to);
    else if (event.key === "Enter" || event.key === " ") choose(active);
    else if (event.key === "Escape" || event.key === "Tab") onClose();
    else return;
    if (event.key !== "Tab") event.preventDefault();
    event.stopPropagation();
  };

  return (
    <div
      ref={list}
      id={id}
      className={right ? "menu-list right" : "menu-list"}
      role="listbox"
      tabIndex={-1}
      aria-label={label}
      aria-activedescendant={`${id}-${active}`}
      onKeyDown={key}
    >
      {choices.map((one, i) => (
        <div
          key={one.value}
          id={`${id}-${i}`}
          className="menu-item"
          role="option"
          aria-selected={one.value === value}
          data-active={i === active}
          title={one.name}
          onPointerMove={() => setActive(i)}
          onClick={() => choose(i)}
        >
          <span>{one.name}</span>
        </div>
      ))}
    </div>
  );
}

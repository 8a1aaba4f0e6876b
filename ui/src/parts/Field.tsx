// A labelled field with its help, and its mistake where there is one.
import { type ReactNode, useId } from "react";

interface Props {
  label: string;
  value: string;
  onChange: (value: string) => void;
  placeholder?: string;
  help?: ReactNode;
  mistake?: string | undefined;
  first?: boolean;
  number?: boolean;
  disabled?: boolean;
}

export function Field({
  label,
  value,
  onChange,
  placeholder,
  help,
  mistake,
  first,
  number,
  disabled = false,
}: Props) {
  const id = useId();
  const note = mistake ?? help;
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        className="input mono"
        value={value}
        placeholder={placeholder}
        disabled={disabled}
        inputMode={number === true ? "numeric" : undefined}
        spellCheck={false}
        autoComplete="off"
        data-first={first}
        aria-invalid={mistake !== undefined}
        aria-describedby={note === undefined ? undefined : `${id}-note`}
        onChange={(event) => onChange(event.target.value)}
      />
      {note === undefined ? null : (
        <p id={`${id}-note`} className={mistake === undefined ? "faint" : "bad"}>
          {note}
        </p>
      )}
    </div>
  );
}

interface ChooseProps {
  label: string;
  value: string;
  choices: { value: string; name: string }[];
  onChange: (value: string) => void;
}

/** One of a few, all in sight. */
export function Choose({ label, value, choices, onChange }: ChooseProps) {
  const name = useId();
  return (
    <fieldset className="choose">
      <legend className="sr">{label}</legend>
      {choices.map((one) => (
        <label key={one.value} data-on={one.value === value}>
          <input
            type="radio"
            className="sr"
            name={name}
            value={one.value}
            checked={one.value === value}
            onChange={() => onChange(one.value)}
          />
          {one.name}
        </label>
      ))}
    </fieldset>
  );
}

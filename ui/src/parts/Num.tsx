// A quantity with its unit smaller and dimmer; the exact value on hover.
import { NONE, type Quantity } from "../lib/format";

export function Num({ of, exact }: { of: Quantity | undefined; exact?: string | undefined }) {
  if (of === undefined) return <span className="faint">{NONE}</span>;
  return (
    <span title={exact}>
      {of.value}
      {of.unit === "" ? null : <span className="unit"> {of.unit}</span>}
    </span>
  );
}
